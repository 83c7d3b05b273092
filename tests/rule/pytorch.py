#!/usr/bin/env python3
"""Writes tests/rule/pytorch.txt: the results of PyTorch's optimizers for generated gradients.

    pip install torch && python tests/rule/pytorch.py > tests/rule/pytorch.txt

Elements are float32, one tensor of 16 parameters, with foreach (and so fused) off except for NAdam. Weights are C99
hexadecimal floats.
The gradient of element i in step t (from 1) is computed with small integers, so that C++ reproduces its bits:
    x = (t * 16 + i) * 2654435761 mod 2^32;  x ^= x >> 15;  x = x * 2246822519 mod 2^32;  x ^= x >> 13
    gradient = (x >> 8) / 2^23 - 1
and the initial weight of element i is the gradient of step 0. From step 51 on lr is a quarter of its first value.
"""
import torch

ELEMENTS, STEPS, SHOWN = 16, 100, (1, 10, 100)

CASES = [
    ("Sgd", dict(lr=0.1)),
    ("Sgd", dict(lr=0.1, weight_decay=0.05)),
    ("Sgd", dict(lr=0.02, momentum=0.9)),
    ("Sgd", dict(lr=0.02, momentum=0.9, dampening=0.3)),
    ("Sgd", dict(lr=0.02, momentum=0.9, nesterov=True)),
    ("Sgd", dict(lr=0.02, momentum=0.8, weight_decay=0.1, nesterov=True)),
    ("Sgd", dict(lr=0.02, momentum=0.7, dampening=0.5, weight_decay=0.01)),
    ("Adam", dict()),
    ("Adam", dict(lr=0.01, weight_decay=0.1)),
    ("Adam", dict(lr=0.01, beta1=0.8, beta2=0.95, epsilon=1e-3)),
    ("Adam", dict(lr=0.01, beta1=0.3, beta2=0.5, epsilon=1e-8)),
    ("Adam", dict(lr=0.01, beta1=0.0, beta2=0.99, epsilon=1e-8)),
    ("AdamW", dict()),
    ("AdamW", dict(lr=0.01, weight_decay=0.1)),
    ("AdamW", dict(lr=0.01, weight_decay=0.0, beta1=0.95, beta2=0.98, epsilon=1e-6)),
    ("AMSGrad", dict()),
    ("AMSGrad", dict(lr=0.01, weight_decay=0.1)),
    ("AMSGrad", dict(lr=0.01, beta1=0.3, beta2=0.5, epsilon=1e-3)),
    ("Adagrad", dict()),
    ("Adagrad", dict(lr=0.1, lr_decay=0.05, weight_decay=0.1)),
    ("Adagrad", dict(lr=0.1, initial_accumulator_value=0.3, epsilon=1e-3)),
    ("RMSprop", dict(lr=0.001)),
    ("RMSprop", dict(weight_decay=0.1)),
    ("RMSprop", dict(alpha=0.5, epsilon=1e-3)),
    ("Adadelta", dict()),
    ("Adadelta", dict(lr=0.5, weight_decay=0.1)),
    ("Adadelta", dict(rho=0.5, epsilon=1e-4)),
    ("NAdam", dict()),
    ("NAdam", dict(lr=0.01, weight_decay=0.1)),
    ("NAdam", dict(lr=0.01, beta1=0.8, beta2=0.95, epsilon=1e-3, momentum_decay=0.5)),
    ("NAdam", dict(lr=0.01, momentum_decay=100.0)),
    ("RAdam", dict()),
    ("RAdam", dict(lr=0.01, weight_decay=0.1)),
    ("RAdam", dict(lr=0.01, beta1=0.8, beta2=0.9, epsilon=1e-3)),
    ("RAdam", dict(lr=0.01, beta2=0.5)),
]


def gradient(t, i):
    x = (t * 16 + i) * 2654435761 % 2**32
    x ^= x >> 15
    x = x * 2246822519 % 2**32
    x ^= x >> 13
    return (x >> 8) / 2**23 - 1


def optimizer(rule, weight, settings):
    settings = dict(settings)
    if rule == "Sgd":
        return torch.optim.SGD([weight], foreach=False, **settings)
    if "epsilon" in settings:
        settings["eps"] = settings.pop("epsilon")
    if "beta1" in settings or "beta2" in settings:
        settings["betas"] = (settings.pop("beta1", 0.9), settings.pop("beta2", 0.999))
    if rule == "AMSGrad":
        return torch.optim.Adam([weight], amsgrad=True, foreach=False, **settings)
    # Without foreach, NAdam of torch 1.13 multiplies mu_t twice into the product up to t + 1, which contradicts its own
    # formula. Its foreach version does not, and torch 2.15 does not in either version.
    foreach = rule == "NAdam"
    return getattr(torch.optim, rule)([weight], foreach=foreach, **settings)


def main():
    print(f"# Written by tests/rule/pytorch.py with torch {torch.__version__.split('+')[0]}.")
    print("# case RULE SETTING=VALUE ...; then: STEP WEIGHT ... (16 weights)")
    for rule, settings in CASES:
        print(" ".join(["case", rule] + [f"{key}={float(value)!r}" for key, value in settings.items()]))
        weight = torch.tensor([gradient(0, i) for i in range(ELEMENTS)], dtype=torch.float32)
        opt = optimizer(rule, weight, settings)
        for t in range(1, STEPS + 1):
            if t == 51:
                opt.param_groups[0]["lr"] *= 0.25
            weight.grad = torch.tensor([gradient(t, i) for i in range(ELEMENTS)], dtype=torch.float32)
            opt.step()
            if t in SHOWN:
                print(t, *[float(w).hex() for w in weight])


if __name__ == "__main__":
    main()
