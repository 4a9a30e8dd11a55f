"""`feed patients`: a site's patients under their pseudonyms, and whether they may be asked."""

from __future__ import annotations

from collections.abc import Sequence

from pharmaloop.clinical.v1 import events_pb2 as events
from pharmaloop.clinical.v1 import service_pb2 as api
from services.cli.feed.columns import Column, Layout, Values
from services.cli.feed.dispenses import PSEUDONYM, SITE
from services.cli.feed.moments import message_of
from services.cli.feed.noun import Noun
from services.cli.feed.values import MOMENT, TEXT, WHOLE, YES_OR_NO, one_of
from services.kit.errors import Invalid

_OLDEST_YEARS = 130
_SEXES = {"F": ("female", "女"), "M": ("male", "男"), "U": ("unknown", "未知")}

_COLUMNS = (
    PSEUDONYM,
    SITE,
    Column(
        "consent",
        YES_OR_NO,
        "Does the patient consent to follow-up?",
        "yes",
        required=True,
        synonyms=("知情同意", "是否同意", "同意随访"),
    ),
    Column(
        "at",
        MOMENT,
        "When this was recorded",
        "2026-03-01T08:00:00+08:00",
        required=True,
        synonyms=("time", "date", "recorded", "登记日期", "登记时间", "日期", "时间"),
    ),
    Column("age", WHOLE, "Age in years; sealed before it is stored", "63", synonyms=("年龄",)),
    Column("sex", one_of(_SEXES), "Sex; sealed before it is stored", "F", synonyms=("gender", "性别")),
    Column("arm", TEXT, "Planned treatment arm; sealed before it is stored", "54 mg", synonyms=("组别",)),
)


def _subject(values: Values, _: Layout) -> api.Subject:
    subject = api.Subject(
        pseudonym=values["pseudonym"], consent=values["consent"], at=message_of(values["at"])
    )
    if any(values.get(name) is not None for name in ("age", "sex", "arm")):
        subject.profile.CopyFrom(_profile(values))
    return subject


def _profile(values: Values) -> events.SubjectProfile:
    age = values.get("age")
    if age is None:
        raise Invalid(
            "REQUIRED", "a profile needs the age; leave sex and arm out, too, where it is not known", "age"
        )
    if not 0 <= age <= _OLDEST_YEARS:
        raise Invalid("OUT_OF_RANGE", f"an age is 0 to {_OLDEST_YEARS} years", "age")
    return events.SubjectProfile(age_years=age, sex=values.get("sex") or "U", arm=values.get("arm") or "")


def _request(id: str, site: str, subjects: Sequence[api.Subject]) -> api.RecordSubjectsRequest:
    return api.RecordSubjectsRequest(request_id=id, site=site, subjects=subjects)


PATIENTS = Noun(
    name="patients",
    tells="A site's patients under their pseudonyms.",
    columns=_COLUMNS,
    message=_subject,
    request=_request,
    method=lambda session, site: session.clinical_at(site).RecordSubjects,
    shared="site",
)
