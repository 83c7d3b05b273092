"""Prints the table of tools/demo from the reports of an example: FOLDER/training.json and FOLDER/stage0..3.json."""

import json
import sys
from pathlib import Path


def report(path):
    return json.loads(path.read_text(encoding="utf-8"))


def main(folder):
    training = report(folder / "training.json")
    print(f"trained {training['steps']} steps: loss {training['final_loss']:.4f}, accuracy {training['accuracy']:.2%}")
    print(f"{training['parameters']} parameters\n")
    print("stage  bytes a rank, planned    counted  elements sent a step  parameters after 20 steps")
    stages = [report(folder / f"stage{stage}.json") for stage in range(4)]
    for stage in stages:
        # The largest of all ranks.
        planned, counted, sent = (max(stage[key]) for key in
                                  ("bytes_planned", "bytes_counted", "elements_sent_per_step"))
        print(f"{stage['stage']:>5}  {planned:>21}  {counted:>9}  {sent:>20}  {stage['parameters_fingerprint']:>25}")
    print("\nThe bytes are those of the ZeRO paper and, at stages 2 and 3, the buckets in flight: a few layers.\n"
          "For a model of your own, before anything runs: Optimizer::plan(layout, world, options).")
    prints = {stage["parameters_fingerprint"] for stage in stages}
    print("\nall stages have the same parameters, to the last bit" if len(prints) == 1 else "\nthe stages DIFFER")
    exact = all(stage["bytes_planned"] == stage["bytes_counted"] for stage in stages)
    print("counted bytes equal planned bytes" if exact else "counted and planned bytes DIFFER")
    return 0 if len(prints) == 1 and exact else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
