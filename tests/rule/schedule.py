#!/usr/bin/env python3
"""Writes tests/rule/schedule.txt: the learning rates of PyTorch's schedulers.

    pip install torch && python tests/rule/schedule.py > tests/rule/schedule.txt

Each case is a schedule of Tessera with its settings, then the rates of its steps 1, 2, ... as float64, read from the
optimizer before each step. CASES has the corresponding PyTorch scheduler beside it.
"""
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, OneCycleLR, SequentialLR, StepLR


def warmup(opt, steps):
    return LinearLR(opt, start_factor=1 / steps, total_iters=steps - 1)


def after_warmup(opt, steps, decay):
    return SequentialLR(opt, [warmup(opt, steps), decay], milestones=[steps])


# Schedule, settings, the optimizer's own lr, the scheduler, the number of steps.
CASES = [
    ("WarmupSchedule", dict(peak=0.3, warmup_steps=7), 0.3, lambda o: warmup(o, 7), 12),
    ("WarmupSchedule", dict(peak=1e-3, warmup_steps=2), 1e-3, lambda o: warmup(o, 2), 5),
    ("LinearSchedule", dict(peak=0.2, steps=9), 0.2, lambda o: LinearLR(o, 1.0, 0.0, 9), 9),
    ("LinearSchedule", dict(peak=0.2, steps=10, floor=0.05), 0.2, lambda o: LinearLR(o, 1.0, 0.25, 10), 16),
    ("LinearSchedule", dict(peak=0.2, warmup_steps=4, steps=15, floor=0.05), 0.2,
     lambda o: after_warmup(o, 4, LinearLR(o, 1.0, 0.25, 11)), 20),
    ("CosineSchedule", dict(peak=1e-3, steps=13), 1e-3, lambda o: CosineAnnealingLR(o, 13), 14),
    ("CosineSchedule", dict(peak=1e-3, steps=100, floor=1e-5), 1e-3, lambda o: CosineAnnealingLR(o, 100, 1e-5), 101),
    ("CosineSchedule", dict(peak=1e-3, warmup_steps=5, steps=30, floor=1e-4), 1e-3,
     lambda o: after_warmup(o, 5, CosineAnnealingLR(o, 25, 1e-4)), 31),
    ("StepSchedule", dict(lr=0.1, factor=0.1, every=4), 0.1, lambda o: StepLR(o, 4, 0.1), 21),
    ("StepSchedule", dict(lr=0.1, factor=0.97, every=1), 0.1, lambda o: StepLR(o, 1, 0.97), 40),
    ("OneCycleSchedule", dict(peak=0.01, steps=50), 0.01, lambda o: OneCycleLR(o, 0.01, 50, cycle_momentum=False), 50),
    ("OneCycleSchedule", dict(peak=0.01, steps=17, warmup_share=0.25, start_divisor=10.0, end_divisor=100.0), 0.01,
     lambda o: OneCycleLR(o, 0.01, 17, pct_start=0.25, div_factor=10.0, final_div_factor=100.0, cycle_momentum=False),
     17),
    ("OneCycleSchedule", dict(peak=0.01, steps=8, warmup_share=0.0), 0.01,
     lambda o: OneCycleLR(o, 0.01, 8, pct_start=0.0, cycle_momentum=False), 8),
    ("OneCycleSchedule", dict(peak=0.01, steps=8, warmup_share=1.0), 0.01,
     lambda o: OneCycleLR(o, 0.01, 8, pct_start=1.0, cycle_momentum=False), 8),
]


def main():
    print(f"# Written by tests/rule/schedule.py with torch {torch.__version__.split('+')[0]}.")
    print("# case SCHEDULE SETTING=VALUE ...; then: the rates of steps 1, 2, ...")
    for schedule, settings, lr, scheduler_of, steps in CASES:
        print(" ".join(["case", schedule] + [f"{key}={value!r}" for key, value in settings.items()]))
        opt = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
        scheduler = scheduler_of(opt)
        rates = []
        for _ in range(steps):
            rates.append(opt.param_groups[0]["lr"])
            opt.step()
            if len(rates) < steps:  # OneCycleLR throws after its end
                scheduler.step()
        print(*[repr(float(rate)) for rate in rates])


if __name__ == "__main__":
    main()
