"""Bytes per second of PyTorch's fused AdamW in fp32, one line per sample. Called by bench/update_cuda."""

import argparse
import statistics
import sys

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--elements", type=int, default=2 ** 30)
parser.add_argument("--repeats", type=int, default=20)
arguments = parser.parse_args()
try:
    import torch
except ImportError:
    sys.exit("update_cuda_torch.py: PyTorch cannot be imported: it is not compared")
if not torch.cuda.is_available():
    sys.exit("update_cuda_torch.py: this PyTorch has no CUDA device: it is not compared")

# One parameter of 2^30 elements would need 64-bit indices, for which PyTorch's multi-tensor kernels are not made.
largest = 2 ** 27
sizes = [largest] * (arguments.elements // largest)
if arguments.elements % largest:
    sizes.append(arguments.elements % largest)
parameters = [torch.nn.Parameter(torch.full((size,), 1e-3, device="cuda")) for size in sizes]
for parameter in parameters:
    parameter.grad = torch.full_like(parameter, 1e-3)
optimizer = torch.optim.AdamW(parameters, lr=1e-3, fused=True)


def seconds(steps):
    """Measures with the device's clock, after a step whose kernels run while the host prepares the measured ones."""
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    optimizer.step()
    begin.record()
    for _ in range(steps):
        optimizer.step()
    end.record()
    end.synchronize()
    return 1e-3 * begin.elapsed_time(end)


# Reads gradient, weight and two states; writes weight and states: 28 bytes per element, as with 16-bit parameters and
# gradients and an fp32 master weight.
size = 28 * arguments.elements
steps = min(max(int(100e9 / size), 3), 64)
seconds(2)
rates = [size * steps / seconds(steps) for _ in range(arguments.repeats)]
print("\n".join(f"{rate:.6e}" for rate in rates))
print(f"PyTorch {torch.__version__}, {torch.cuda.get_device_name()}: {statistics.median(rates) * 1e-9:.0f} GB/s",
      file=sys.stderr)
