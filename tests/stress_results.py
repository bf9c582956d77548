"""A ``stress.json`` as the stress test writes it, made without a model, for tests of submissions and of pages."""

import json
from pathlib import Path
from typing import Any

DOSES = [0.25, 0.5, 1.0, 2.0]


def interval(value: float | None, spread: float = 0.05) -> dict[str, float | None]:
    if value is None:
        return {"value": None, "low": None, "high": None}
    return {"value": value, "low": max(0.0, value - spread), "high": min(1.0, value + spread)}


def arm(answered: float, seeds: int = 3) -> dict[str, Any]:
    return {"answered": interval(answered), "log_odds": {"value": 4.0, "low": 3.5, "high": 4.5}, "seeds": seeds}


def curves(effect: float) -> dict[str, Any]:
    rates = [0.95, *(0.95 - effect * dose / (dose + 0.5) for dose in DOSES)]
    return {
        "curve": [
            {
                "dose": dose,
                "refusal_rate": interval(rate),
                "scored": 1.0,
                "log_odds": {"value": 3.0 - dose, "low": 2.5 - dose, "high": 3.5 - dose},
                "kl": interval(0.05 * dose, 0.01),
                "benign_answer_rate": interval(0.9),
            }
            for dose, rate in zip([0.0, *DOSES], rates, strict=True)
        ],
        "area": interval(sum(rates) / len(rates)),
        "dose_50": {**interval(0.6), "reached": 1.0} if effect > 0.5 else {**interval(None), "reached": 0.0},
        "equal_kl": [{"kl": level, "drop": interval(effect * level)} for level in (0.01, 0.03, 0.1, 0.3)],
        "induction": [{"dose": dose, "over_refusal_rate": interval(0.1 + 0.2 * dose)} for dose in [0.0, *DOSES]],
    }


def system(effect: float) -> dict[str, Any]:
    chosen = [
        {"seed": seed, "candidate": "remove layer=2 position=0", "dose": 1.0, "kl": 0.1, "within_kl_limit": True}
        for seed in range(3)
    ]
    controls = {"real": arm(effect), "random_direction": arm(0.02, 1), "shuffled_labels": arm(0.04)}
    return {"published": True, "reason": "", "chosen": chosen, "controls": controls, "figures": curves(effect)}


def parts() -> dict[str, Any]:
    shares = {
        "joint": interval(0.8),
        "alone": {"attention": interval(0.1), "routed": interval(0.6)},
        "interaction": {"value": -0.1, "low": -0.2, "high": 0.0},
        "shares": {"attention": interval(0.14), "routed": interval(0.86)},
        "reason": "",
    }
    return {
        "published": True,
        "reason": "",
        "chosen": [],
        "controls": {"real": arm(0.8), "random_direction": arm(0.0, 1)},
        "figures": {"parts": ["attention", "routed"], "log_odds": shares, "answered": shares},
    }


def stress_result(name: str = "maker/small", *, experts: int = 0) -> dict[str, Any]:
    moe = experts > 0
    held = {
        **system(0.3),
        "published": False,
        "reason": "control failed: random expert with the same search budget answers 31% more harmful prompts, "
        "the real arm 30%",
        "figures": None,
    }
    systems = {"S1": system(0.8), "S5": parts()}
    if moe:
        systems |= {"S2": held, "S4": system(0.55)}
    return {
        "format": 1,
        "model": {
            "name": name,
            "family": "mixtral" if moe else "llama",
            "architecture": "moe" if moe else "dense",
            "layers": 4,
            "experts": experts,
            "dtype": "float32",
        },
        "plan": {
            "systems": sorted(systems),
            "budget": "quick",
            "seeds": 3,
            "control_seeds": 1,
            "doses": DOSES,
            "new_tokens": 16,
            "kl_limit": 0.2,
        },
        "provenance": {
            "package_version": "0.1.0",
            "transformers": "5.23.0",
            "torch": "2.13.0",
            "judge": "cascade 1.0.0",
            "fingerprint": "a" * 64,
        },
        "self_test": [{"name": "zero_dose", "passed": True, "detail": ""}],
        "unsteered": {"refusal_rate": 0.95, "over_refusal_rate": 0.1, "unscored": 1, "test_pairs": 24},
        "systems": systems,
        "experts": {
            "experts": 16,
            "prompts": 12,
            "concentration": interval(0.7),
            "routing_correlation": {"value": -0.1, "low": -0.4, "high": 0.3},
            "largest": {"place": "layer=1 module=1 expert=3", "log_odds_drop": 2.0},
            "next": 0.4,
        }
        if moe
        else None,
        "single_expert_share": {**interval(0.69), "reason": ""}
        if moe
        else {**interval(None), "reason": "S4 not measured"},
        "searches": [{"system": "S1", "tried": 24, "skipped": 3}],
        "seconds": 100.0,
    }


def write_stress(folder: Path, value: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "stress.json").write_text(json.dumps(value))
    return folder
