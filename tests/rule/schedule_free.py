#!/usr/bin/env python3
"""Writes tests/rule/schedule_free.txt: the results of the authors' package for generated gradients, in float64.

    pip install torch schedulefree==1.4.1 && python tests/rule/schedule_free.py > tests/rule/schedule_free.txt

Gradients and initial weights are those of pytorch.py in this folder. Weights are C99 hexadecimal floats.
"""
import importlib.metadata

import schedulefree
import torch

from pytorch import ELEMENTS, SHOWN, STEPS, gradient

CASES = [
    dict(),
    dict(lr=0.01, weight_decay=0.1),
    dict(lr=0.01, warmup_steps=1),
    dict(lr=0.01, warmup_steps=30),
    dict(lr=0.01, weight_decay=0.1, warmup_steps=200),
    dict(lr=0.01, beta1=0.95, beta2=0.9, epsilon=1e-2, weight_decay=0.1, warmup_steps=10),
    dict(lr=0.01, beta1=0.5, beta2=0.0, warmup_steps=10),
]


def main():
    print(f"# Written by tests/rule/schedule_free.py with schedulefree {importlib.metadata.version('schedulefree')}, "
          f"torch {torch.__version__.split('+')[0]}.")
    print("# case SETTING=VALUE ...; then: STEP trained|evaluated WEIGHT ... (16 weights)")
    for settings in CASES:
        print(" ".join(["case"] + [f"{key}={float(value)!r}" for key, value in settings.items()]))
        options = dict(settings)
        betas = (options.pop("beta1", 0.9), options.pop("beta2", 0.999))
        weight = torch.tensor([gradient(0, i) for i in range(ELEMENTS)], dtype=torch.float64)
        opt = schedulefree.AdamWScheduleFree([weight], betas=betas, eps=options.pop("epsilon", 1e-8), foreach=False,
                                             **options)
        opt.train()
        for t in range(1, STEPS + 1):
            weight.grad = torch.tensor([gradient(t, i) for i in range(ELEMENTS)], dtype=torch.float64)
            opt.step()
            if t in SHOWN:
                print(t, "trained", *[float(w).hex() for w in weight])
                opt.eval()
                print(t, "evaluated", *[float(w).hex() for w in weight])
                opt.train()


if __name__ == "__main__":
    main()
