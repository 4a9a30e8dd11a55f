"""The vocabulary of adverse events: codes and wording of our own, in English and Chinese.

It is small on purpose: complaints that patients tell in their own words. It
is not taken from a licensed terminology. `PL` codes never change their
meaning: a term that is not used any more stays, and a new one gets a new code.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from services.refusals import Malformed

#: A complaint that the vocabulary has no term for: two of them are never taken for the same.
OTHER = "PL9900"


@dataclass(frozen=True)
class Term:
    """A complaint with its names in both languages; `synonyms` in either."""

    code: str
    en: str
    zh: str
    group: tuple[str, str]
    synonyms: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return self.code, self.en, self.zh, *self.synonyms


_GROUPS: dict[str, tuple[str, str]] = {
    "01": ("skin", "皮肤"),
    "02": ("nerves and senses", "神经与感官"),
    "03": ("stomach and bowels", "胃肠"),
    "04": ("heart and vessels", "心血管"),
    "05": ("breathing", "呼吸"),
    "06": ("whole body", "全身"),
    "07": ("muscles and joints", "肌肉与关节"),
    "08": ("kidneys and bladder", "肾与膀胱"),
    "09": ("mind and sleep", "精神与睡眠"),
    "10": ("liver and blood", "肝与血液"),
    "99": ("other", "其他"),
}

#: Code | English | Chinese | other names.
_TERMS = """
PL0101 | itching | 瘙痒 | itchy skin, pruritus, 发痒, 皮肤瘙痒
PL0102 | rash | 皮疹 | skin rash, 疹子, 出疹
PL0103 | hives | 荨麻疹 | urticaria, nettle rash, 风疹块
PL0104 | redness of the skin | 皮肤发红 | erythema, red skin, 红斑
PL0105 | reaction where the medicine was applied | 用药部位反应 | application site reaction, 贴敷部位反应
PL0106 | blisters | 水疱 | blistering, 起泡
PL0107 | sweating | 多汗 | sweats, 出汗
PL0108 | hair loss | 脱发 | alopecia, 掉发
PL0201 | dizziness | 头晕 | dizzy, light-headed, 眩晕感
PL0202 | headache | 头痛 | head pain, 头疼
PL0203 | fainting | 晕厥 | syncope, passed out, 昏倒
PL0204 | trembling | 震颤 | tremor, shaking, 发抖
PL0205 | numbness or tingling | 麻木或刺痛感 | paraesthesia, pins and needles, 麻木
PL0206 | seizure | 惊厥 | convulsion, fit, 抽搐
PL0207 | blurred vision | 视物模糊 | vision blurred, 视力模糊
PL0208 | ringing in the ears | 耳鸣 | tinnitus
PL0209 | changed taste | 味觉改变 | dysgeusia, 味觉异常
PL0301 | nausea | 恶心 | feeling sick, 反胃
PL0302 | vomiting | 呕吐 | being sick, throwing up
PL0303 | diarrhoea | 腹泻 | diarrhea, loose stools, 拉肚子
PL0304 | constipation | 便秘 |
PL0305 | belly pain | 腹痛 | abdominal pain, stomach ache, 肚子痛
PL0306 | heartburn | 烧心 | acid reflux, 反酸
PL0307 | loss of appetite | 食欲减退 | poor appetite, 没胃口
PL0308 | dry mouth | 口干 |
PL0309 | black or bloody stools | 黑便或血便 | bleeding from the bowel, 便血
PL0401 | palpitations | 心悸 | racing heart, 心慌
PL0402 | slow heartbeat | 心动过缓 | bradycardia, 心跳慢
PL0403 | chest pain | 胸痛 |
PL0404 | low blood pressure | 低血压 | hypotension, 血压低
PL0405 | high blood pressure | 高血压 | hypertension, 血压高
PL0406 | swollen legs | 下肢水肿 | leg oedema, leg edema, 腿肿
PL0407 | blood clot | 血栓 | thrombosis
PL0501 | shortness of breath | 呼吸困难 | breathlessness, dyspnoea, dyspnea, 气短
PL0502 | cough | 咳嗽 | coughing
PL0503 | wheezing | 喘息 | bronchospasm, 喘鸣
PL0504 | swelling of face or throat | 面部或喉部肿胀 | angioedema, 血管性水肿
PL0601 | fever | 发热 | raised temperature, pyrexia, 发烧
PL0602 | chills | 寒战 | shivering, 发冷
PL0603 | tiredness | 乏力 | fatigue, weakness, 疲劳
PL0604 | severe allergic reaction | 严重过敏反应 | anaphylaxis, 过敏性休克
PL0605 | weight loss | 体重下降 | losing weight
PL0606 | fall | 跌倒 | fell, 摔倒
PL0607 | infection | 感染 |
PL0701 | joint pain | 关节痛 | arthralgia
PL0702 | muscle pain | 肌肉痛 | myalgia, 肌痛
PL0703 | back pain | 背痛 | 腰背痛
PL0704 | muscle cramps | 肌肉痉挛 | cramps, 抽筋
PL0801 | painful urination | 排尿疼痛 | dysuria, 尿痛
PL0802 | passing little or no urine | 少尿或无尿 | oliguria, anuria
PL0803 | blood in the urine | 血尿 | haematuria, hematuria
PL0901 | sleeplessness | 失眠 | insomnia, cannot sleep
PL0902 | anxiety | 焦虑 | nervousness, 紧张
PL0903 | low mood | 情绪低落 | depression, depressed, 抑郁
PL0904 | confusion | 意识模糊 | confused, 糊涂
PL0905 | thoughts of suicide | 自杀念头 | suicidal thoughts, 想自杀
PL1001 | yellow skin or eyes | 皮肤或眼睛发黄 | jaundice, 黄疸
PL1002 | bruising | 瘀伤 | bruises, 皮下出血
PL1003 | nose bleed | 鼻出血 | epistaxis, 流鼻血
PL1004 | low blood sugar | 低血糖 | hypoglycaemia, hypoglycemia
PL9900 | complaint that is not listed | 未列出的不适 | other, 其他
"""


def _read(line: str) -> Term:
    code, en, zh, synonyms = (part.strip() for part in line.split("|"))
    others = tuple(name.strip() for name in synonyms.split(",") if name.strip())
    return Term(code, en, zh, _GROUPS[code[2:4]], others)


TERMS: dict[str, Term] = {term.code: term for term in map(_read, _TERMS.strip().splitlines())}


def coded(name: str, field: str) -> str:
    """Code of the term that has the name, whatever its case; Malformed where none has."""
    code = _by_name().get(_plain(name))
    if code is None:
        said = f"{name!r} is no term of the vocabulary: see GetVocabulary; {OTHER} is for what is not listed"
        raise Malformed("UNKNOWN_TERM", said, field)
    return code


@cache
def _by_name() -> dict[str, str]:
    return dict(_names())


def _names() -> Iterator[tuple[str, str]]:
    for term in TERMS.values():
        for name in term.names:
            yield _plain(name), term.code


def _plain(name: str) -> str:
    return " ".join(name.split()).casefold()
