"""Virtual patients: the warfarin twin and the closed form, beside a solver called for each subject.

Neither needs an engine: both are pure functions on one core. The yardstick is
what one writes first, `scipy.integrate.solve_ivp` for each subject, restarted
at every dose; a few subjects are enough to time it, and its answers check
those of the fast way. Both are timed by processor time of the whole process,
so that a second thread of a library would count as a second core.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from scipy.integrate import solve_ivp

from services.rnd.domain.trial import cohort, pharmacokinetics, warfarin
from services.rnd.domain.trial.pharmacokinetics import Oral
from services.rnd.domain.trial.warfarin import Patients
from tests.bench.framework.machine import Machine
from tests.bench.framework.rows import Row, Target, row
from tests.bench.framework.run import option

SUBJECTS = option("SUBJECTS", 100_000)
SOLVED = option("SOLVED", 10)
DAYS = 30
DOSE = 3.0
HOURS = (0.0, 6.0, 12.0, 18.0)
#: Ten doses every 12 h, read every hour for five days.
DOSE_TIMES = tuple(12.0 * number for number in range(10))
TIMES = tuple(float(hour) for hour in range(121))
_ROUNDS = 3


def fastest(call: Any) -> tuple[float, Any]:
    """Processor seconds of the fastest of a few calls, after one to warm up, and what it gave."""
    result, seconds = call(), []
    for _ in range(_ROUNDS):
        begun = time.process_time()
        result = call()
        seconds.append(time.process_time() - begun)
    return min(seconds), result


def solved_inr(patients: Patients, subject: int) -> np.ndarray[Any, Any]:
    """The INR of one subject by the solver: (days, hours)."""
    one = patients.part(slice(subject, subject + 1))
    rate, half = float(warfarin.clearance(one)[0]) / warfarin.VOLUME, float(warfarin.ec50(one)[0])
    short, long = warfarin.TRANSIT_RATES

    def slopes(_: float, y: Any) -> list[float]:
        power = (max(y[0], 0.0) / warfarin.VOLUME) ** warfarin.HILL
        free = 1 - power / (half**warfarin.HILL + power)
        first = [-rate * y[0], short * (free - y[1]), short * (y[1] - y[2]), short * (y[2] - y[3])]
        return [*first, long * (free - y[4]), long * (y[4] - y[5]), long * (y[5] - y[6])]

    state, course = np.array([0.0] + [1.0] * 6), []
    for _ in range(DAYS):
        state[0] += DOSE
        found = solve_ivp(slopes, (0, 24), state, t_eval=[*HOURS, 24.0], rtol=1e-6, atol=1e-8)
        level = (found.y[3] + found.y[6]) / 2
        course.append((float(one.inr0[0]) + warfarin.LARGEST_RISE * (1 - level))[: len(HOURS)])
        state = found.y[:, -1]
    return np.array(course)


def solved_oral(ka: float, ke: float, v: float, dose: float) -> np.ndarray[Any, Any]:
    """The concentrations of one subject by the solver."""
    state, read = np.zeros(2), []
    ends = [*DOSE_TIMES[1:], TIMES[-1] + 1]
    for begun, end in zip(DOSE_TIMES, ends, strict=True):
        state[0] += dose
        times = [at for at in TIMES if begun <= at < end]
        found = solve_ivp(
            lambda _, y: [-ka * y[0], ka * y[0] - ke * y[1]],
            (begun, end),
            state,
            t_eval=[*times, end],
            rtol=1e-6,
            atol=1e-8,
        )
        read.extend((found.y[1, :-1] / v).tolist())
        state = found.y[:, -1]
    return np.array(read)


def twin() -> Row:
    patients = cohort.sample(SUBJECTS, seed=1)
    doses = np.full((DAYS, 1), DOSE)
    seconds, course = fastest(lambda: warfarin.simulate(patients, doses, hours=HOURS))
    begun = time.process_time()
    checked = [solved_inr(patients, subject) for subject in range(SOLVED)]
    slow = SOLVED / (time.process_time() - begun)
    apart = max(float(np.abs(course.inr[:, :, n] - one).max()) for n, one in enumerate(checked))
    assert apart < 1e-3, f"INR is {apart:g} from the solver's"
    return row(
        "virtual patients: the warfarin twin, one core",
        SUBJECTS / seconds,
        "subjects/s",
        yardstick=("solve_ivp for each subject", slow),
        target=Target(at_least=20_000),
        note=f"{SUBJECTS:,} subjects, {DAYS} days with a dose a day, INR four times a day; the "
        f"chains solved exactly over {warfarin.NODES} nodes a day; at most {apart:.1g} INR from the solver "
        f"at rtol 1e-6, on {SOLVED} subjects",
    )


def closed_form() -> Row:
    rng = np.random.default_rng(1)
    draws = rng.standard_normal((3, SUBJECTS))
    ka, cl, v = 1.57 * np.exp(0.6 * draws[0]), 2.76 * np.exp(0.27 * draws[1]), 31.5 * np.exp(0.13 * draws[2])
    subjects = Oral.of(ka, cl, v)
    seconds, found = fastest(lambda: pharmacokinetics.concentrations(subjects, DOSE_TIMES, 320.0, TIMES))
    begun = time.process_time()
    checked = [solved_oral(ka[n], cl[n] / v[n], v[n], 320.0) for n in range(SOLVED)]
    slow = SOLVED / (time.process_time() - begun)
    apart = max(float(np.abs(found[:, n] - one).max()) for n, one in enumerate(checked))
    assert apart < 1e-2, f"concentrations are {apart:g} mg/L from the solver's"
    return row(
        "virtual patients: one compartment by mouth, closed form, one core",
        SUBJECTS / seconds,
        "subjects/s",
        yardstick=("solve_ivp for each subject", slow),
        target=Target(at_least=150_000),
        note=f"{SUBJECTS:,} subjects, {len(DOSE_TIMES)} doses, {len(TIMES)} readings; at most {apart:.1g} "
        f"mg/L from the solver at rtol 1e-6, on {SOLVED} subjects",
    )


def run(machine: Machine) -> list[Row]:
    """Nothing of the machine is started."""
    del machine
    return [twin(), closed_form()]
