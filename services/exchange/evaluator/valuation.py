"""Values all coalitions of one job: each is fitted by the job's own model, then measured on all patients."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import cast

import numpy as np

from services.exchange.domain import models
from services.exchange.domain.contribution import evaluation as told
from services.exchange.domain.contribution import explained
from services.exchange.domain.contribution.evaluation import Evaluation, Open
from services.exchange.domain.contribution.shapley import Coalition
from services.exchange.domain.errors import Unfit
from services.exchange.domain.stats.fitted import FIT, Fitted
from services.exchange.domain.stats.protocol import Ask, Spec, State, Vector
from services.refusals import Refusal

#: (coalition, ask, everybody) -> what each asked site sealed.
AskSites = Callable[[Coalition, Ask, bool], Awaitable[Mapping[str, bytes]]]


class Valuation:
    """One job. `specification` is that of its study, `most_rounds` what one fit may take."""

    def __init__(
        self,
        evaluation: Evaluation,
        name: str,
        specification: Spec,
        most_rounds: int,
        ask: AskSites,
        open_: Open,
    ) -> None:
        if name not in explained.MODELS:
            said = f"{name} has no measure of worth from sums; {', '.join(sorted(explained.MODELS))} have"
            raise Refusal("MODEL_NOT_VALUED", said, "model")
        self._evaluation, self._ask, self._open = evaluation, ask, open_
        self._model = cast(Fitted, models.model(name))
        self._linear = name == "linear"
        self._spec, self._most_rounds = explained.specification(specification), most_rounds
        #: Log-likelihood of the model without terms, stretch of the outcome, patients: of all sites.
        self._null = self._stretch = self._patients = 0.0

    async def all(self) -> Evaluation:
        """The valuation with every coalition's value; Refusal where the model of all sites does not fit."""
        everybody = frozenset(self._evaluation.owners)
        await self._one(everybody)
        for coalition in self._evaluation.remaining():
            await self._one(coalition)
        return self._evaluation

    async def _one(self, coalition: Coalition) -> None:
        self._evaluation = told.begin(self._evaluation, coalition)
        everybody = coalition == frozenset(self._evaluation.owners)
        try:
            worth = await self._worth(coalition, everybody)
        except Unfit as unfit:
            if everybody:
                said = f"the model of all sites does not fit: {unfit.description}"
                raise Refusal("NOT_FITTED", said, "model") from None
            # Too few patients, no event, a column that does not vary: its members bring no model.
            worth = self._evaluation.utility.nobody
        self._evaluation = told.valued(self._evaluation, coalition, worth)

    async def _worth(self, coalition: Coalition, everybody: bool) -> float:
        state, rounds = self._model.start(self._spec), 0
        while (ask := self._model.ask(state)) is not None:
            rounds += 1
            if rounds > self._most_rounds:
                raise Unfit("TOO_MANY_ROUNDS", "the fit takes more rounds than the study allows", "rounds")
            total = await self._sum(coalition, ask, False)
            if everybody and ask.phase == FIT and not self._patients:
                self._note(state, ask, total)
            state = self._model.take(state, total)
        return self._measured(state, await self._at_end(coalition, state))

    async def _at_end(self, coalition: Coalition, state: State) -> dict[str, Vector]:
        last = self._model.measure(state)
        return self._model.layout(last).split(await self._sum(coalition, last, True))

    def _note(self, state: State, ask: Ask, total: Vector) -> None:
        """The first point of the fit of all is the model without terms, at its own estimate."""
        found = self._model.layout(ask).split(total)
        self._null, self._patients = float(found["log_likelihood"][0]), float(state.memo["n"])
        self._stretch = float(state.memo["own"][1]) if self._linear else 1.0

    def _measured(self, state: State, found: Mapping[str, Vector]) -> float:
        if round(float(found["overflow"][0])):
            return self._evaluation.utility.nobody  # beyond what the model allows at some site
        value = float(found["log_likelihood"][0])
        if not self._linear:
            return explained.explained(value, self._null, self._patients)
        # Of linear fits the log-likelihood is minus half the squares, in each fit's own unit.
        stretch = float(state.memo["own"][1])
        return explained.of_squares(-2 * value * stretch**2, -2 * self._null * self._stretch**2)

    async def _sum(self, coalition: Coalition, ask: Ask, everybody: bool) -> Vector:
        received = await self._ask(coalition, ask, everybody)
        vectors = told.opened(
            self._evaluation, coalition, ask.round, received, self._open, everybody=everybody
        )
        return np.asarray(np.sum([vectors[site] for site in sorted(vectors)], axis=0))
