"""The codes of observations: LOINC for the laboratory, UCUM for units, a small vocabulary of symptoms.

LOINC codes (loinc.org) are those of serum or plasma and blood, by amount of
substance where the pilot study reports one. Tests of the study without a
certain code (morphology, corpuscular haemoglobin) are left out.
"""

from __future__ import annotations

#: LOINC code by the study's LBTESTCD.
LAB_CODES = {
    "ALB": "1751-7",
    "ALP": "6768-6",
    "ALT": "1742-6",
    "AST": "1920-8",
    "BASO": "704-7",
    "BILI": "14631-6",
    "CA": "2000-8",
    "CHOL": "14647-2",
    "CK": "2157-6",
    "CL": "2075-0",
    "CREAT": "14682-9",
    "EOS": "711-2",
    "GGT": "2324-2",
    "GLUC": "14749-6",
    "HGB": "59260-0",
    "K": "2823-3",
    "LYM": "731-0",
    "MCV": "787-2",
    "MONO": "742-7",
    "PHOS": "14879-1",
    "PLAT": "777-3",
    "PROT": "2885-2",
    "RBC": "789-8",
    "SODIUM": "2951-2",
    "URATE": "14933-6",
    "UREAN": "14937-7",
    "WBC": "6690-2",
}
#: C-reactive protein: the study has none, the synthetic hospitals have.
CRP = "1988-5"
ALT, CREATININE, LEUKOCYTES = LAB_CODES["ALT"], LAB_CODES["CREAT"], LAB_CODES["WBC"]
#: UCUM by the study's LBSTRESU.
UNITS = {
    "10^12/L": "10*12/L",
    "10^9/L": "10*9/L",
    "U/L": "U/L",
    "fL": "fL",
    "g/L": "g/L",
    "mmol/L": "mmol/L",
    "umol/L": "umol/L",
}
#: The vocabulary of symptoms, by the study's AEDECOD; everything else is the other symptom.
SYMPTOMS = {
    "APPLICATION SITE DERMATITIS": "rash",
    "APPLICATION SITE ERYTHEMA": "erythema",
    "APPLICATION SITE IRRITATION": "skin irritation",
    "APPLICATION SITE PRURITUS": "pruritus",
    "CHILLS": "chills",
    "DIARRHOEA": "diarrhoea",
    "DIZZINESS": "dizziness",
    "ERYTHEMA": "erythema",
    "FATIGUE": "fatigue",
    "HEADACHE": "headache",
    "NAUSEA": "nausea",
    "PRURITUS": "pruritus",
    "PYREXIA": "fever",
    "RASH": "rash",
    "SKIN IRRITATION": "skin irritation",
    "SYNCOPE": "syncope",
    "VOMITING": "vomiting",
}
OTHER_SYMPTOM = "other"
VOCABULARY = (*sorted(set(SYMPTOMS.values())), OTHER_SYMPTOM)
SEVERITIES = {"MILD": 1.0, "MODERATE": 2.0, "SEVERE": 3.0}
