"""Somebody before a screen: goes where links lead, reads, and signs, in one language."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from playwright.sync_api import BrowserContext, Locator, Page, expect

from services.portal.languages import Language

#: What the platform is given to get somewhere by itself (milliseconds).
PATIENCE = 60_000


@dataclass(frozen=True)
class Person:
    """A person with a name, in a browser of their own; `code` is the language that they read."""

    page: Page
    code: str
    name: str

    def say(self, english: str, **values: object) -> str:
        """A sentence of the portal in this person's language."""
        return Language(self.code).say(english, **values)

    # -- where to go -----------------------------------------------------------------

    def open(self, address: str) -> None:
        answer = self.page.goto(address)
        assert answer is not None
        assert answer.status == 200, f"{address} answers {answer.status}"

    def place(self, english: str) -> None:
        """To one of the places in the head of every page."""
        menu = self.page.get_by_role("navigation", name=self.say("Places"))
        menu.get_by_role("link", name=self.say(english), exact=True).click()
        expect(self.page.get_by_role("heading", level=1)).to_be_visible()

    def show(self, picked: Mapping[str, str]) -> None:
        """Set filters, English label to what is picked (in English) or written, and have them shown."""
        form = self.page.get_by_role("form", name=self.say("Filters"))
        for label, value in picked.items():
            name = self.say(label)
            picks = form.get_by_role("combobox", name=name, exact=True)
            control = picks.or_(form.get_by_role("textbox", name=name, exact=True))
            if control.evaluate("one => one.tagName") == "SELECT":
                control.select_option(label=self.say(value))
            else:
                control.fill(value)
        form.get_by_role("button", name=self.say("Show")).click()

    def follow(self, english: str, **values: object) -> None:
        """A link by its words; waited for, as the page follows by itself."""
        self.link(english, **values).click(timeout=PATIENCE)

    def link(self, english: str, **values: object) -> Locator:
        return self.page.get_by_role("link", name=self.say(english, **values), exact=True)

    def row(self, *texts: str) -> Locator:
        """The row of a table that says all of this."""
        rows = self.page.get_by_role("row")
        for text in texts:
            rows = rows.filter(has_text=text)
        return rows.first

    # -- what is there -----------------------------------------------------------------

    def reads(self, english: str, *, seconds: float = 60, **values: object) -> None:
        """The sentence stands on the page, or soon will."""
        text = self.say(english, **values)
        expect(self.page.locator("main")).to_contain_text(text, timeout=seconds * 1000)

    def fact(self, english: str) -> Locator:
        """What stands beside a label in a list of facts."""
        label = re.compile(f"^{re.escape(self.say(english))}$")
        term = self.page.locator("main dt").filter(has_text=label).first
        return term.locator("xpath=following-sibling::dd[1]")

    # -- what to sign ---------------------------------------------------------------------

    def sign(self, button: str, written: Mapping[str, str], **values: object) -> None:
        """Fill in what is asked, by label, and sign; who has not said their name is asked for it first."""
        who = self.page.get_by_role("heading", level=1, name=self.say("Who are you?"))
        form = self.page.locator("form.decide")
        expect(form).to_be_visible()
        if who.count():
            self.page.get_by_label(self.say("Name"), exact=True).fill(self.name)
            self.page.get_by_role("button", name=self.say("Remember")).click()
            expect(who).to_have_count(0)
        name = form.locator("#field-actor")
        named = name.count() > 0
        if named:
            name.fill(self.name)
        for label, value in written.items():
            labelled = form.get_by_label(re.compile(f"^{re.escape(self.say(label))}"))
            control = labelled.or_(form.get_by_role("checkbox", name=self.say(label), exact=True))
            kind = control.evaluate("one => one.type")
            if kind == "checkbox":
                control.check()
            elif kind == "select-one":
                control.select_option(label=self.say(value))
            else:
                control.fill(value)
        if not named:
            expect(form).to_contain_text(self.say("You sign as %(actor)s.", actor=self.name))
        address = self.page.url
        form.get_by_role("button", name=self.say(button, **values), exact=True).click()
        expect(self.page).not_to_have_url(address, timeout=PATIENCE)
        expect(self.page.get_by_role("alert")).to_have_count(0)


def person(context: BrowserContext, code: str, name: str) -> Person:
    return Person(context.new_page(), code, name)
