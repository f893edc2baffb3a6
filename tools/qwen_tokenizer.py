"""The processor of Qwen2.5-VL (tokenizer, chat template, image limits) without its weights and without a hub:

    python tools/qwen_tokenizer.py                      # into the cache folder, 12 MB; prints where
    python tools/qwen_tokenizer.py --out FOLDER --wheel dashscope-2.0.2-py3-none-any.whl

The vocabulary comes out of a wheel of Alibaba's on the package index, which pip fetches by its hash; the
template is TRL's copy, the class and its rules of splitting text are transformers'. Tests of the real token
ids and `gpu_check.py` read the folder, by default `~/.cache/vzero-harness/qwen2.5-vl`, or the one that
VZERO_QWEN names. It is not a part of the repository for its size.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vzero.errors import InputError, VZeroError
from vzero.runtime import artefacts, compat

if TYPE_CHECKING:
    from transformers import Qwen2_5_VLProcessor, Qwen2Tokenizer

PIN = "dashscope==2.0.2 --hash=sha256:0602d1800f7433bdb7953560986eaf5146454ed3988636c0a91963ba24e74258"
MEMBER = "dashscope/resources/qwen.tiktoken"
SHA256 = "b2b1b8dfb5cc5f024bafc373121c6aba3f66f9a5a0269e243470a1de16a33186"  # of MEMBER
# Ids go on from the vocabulary's 151,643, in this order (Qwen2.5-VL's tokenizer_config.json).
SPECIAL = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>"),
    *("<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>"),
    *("<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"),
)
NOT_SPECIAL = (
    *("<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>"),
    *("<|repo_name|>", "<|file_sep|>"),
)
PIXELS = {
    "patch_size": 14,
    "merge_size": 2,
    "temporal_patch_size": 2,
    "min_pixels": 3136,
    "max_pixels": 12845056,
}


def cache() -> Path:
    """Where the built processor is looked for."""
    return Path(os.environ.get("VZERO_QWEN", Path.home() / ".cache" / "vzero-harness" / "qwen2.5-vl"))


def fetched(folder: Path) -> Path:
    """The pinned wheel, by pip.

    Raises:
        InputError: pip does not get it.
    """
    wanted = folder / "wanted.txt"
    wanted.write_text(PIN + "\n", encoding="utf-8")
    options = ["--no-deps", "--only-binary=:all:", "--require-hashes", "--retries=1", "--quiet"]
    command: list[str] = [
        sys.executable,
        "-m",
        "pip",
        "download",
        *options,
        "-d",
        str(folder),
        "-r",
        str(wanted),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1].rstrip(".")
        raise InputError(f"pip cannot fetch {PIN.split()[0]}: {reason}; give its wheel by --wheel.")
    return next(folder.glob("*.whl"))


def ranks(wheel: Path) -> dict[bytes, int]:
    """The vocabulary in `wheel`: the bytes of each token and its rank, which is its id.

    Raises:
        InputError: no such file, or another vocabulary.
    """
    try:
        data = zipfile.ZipFile(wheel).read(MEMBER)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{wheel} is not the wheel of {PIN.split()[0]}: {error}.") from None
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise InputError(f"{wheel} holds another vocabulary; give the wheel of {PIN.split()[0]}.")
    pairs = (line.split() for line in data.splitlines())
    return {base64.b64decode(token): int(rank) for token, rank in pairs}


def merged(of: Mapping[bytes, int], token: bytes) -> tuple[bytes, bytes]:
    """The last merge that makes `token`: byte pairs joined in the order of their ranks, all below its own."""
    pieces = [token[i : i + 1] for i in range(len(token))]
    while len(pieces) > 2:
        joined = [of.get(a + b, len(of)) for a, b in pairwise(pieces)]
        first = min(range(len(joined)), key=joined.__getitem__)
        if joined[first] >= of[token]:
            raise InputError(f"The vocabulary has no merges for {token!r}.")
        pieces[first : first + 2] = [pieces[first] + pieces[first + 1]]
    return pieces[0], pieces[1]


def tokenizer(of: Mapping[bytes, int]) -> Qwen2Tokenizer:
    """Qwen2.5-VL's, from the ranks of its vocabulary."""
    from transformers import AddedToken, Qwen2Tokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = bytes_to_unicode()

    def shown(token: bytes) -> str:
        return "".join(letters[one] for one in token)

    longer = sorted((token for token in of if len(token) > 1), key=of.__getitem__)
    made = Qwen2Tokenizer(
        vocab={shown(token): rank for token, rank in of.items()},
        merges=[tuple(map(shown, merged(of, token))) for token in longer],
        unk_token=None,
        extra_special_tokens=list(SPECIAL[1:]),
        model_max_length=131072,
        padding_side="left",
    )
    made.add_tokens([AddedToken(one, normalized=False, special=False) for one in NOT_SPECIAL])
    made.eos_token = "<|im_end|>"  # not before: ids go by the order in which tokens are named
    return made


def processor(of: Mapping[bytes, int]) -> Qwen2_5_VLProcessor:
    """The tokenizer with the chat template and the image processor's limits."""
    from transformers import Qwen2_5_VLProcessor, Qwen2VLImageProcessor, Qwen2VLVideoProcessor

    template = resources.files("trl") / "chat_templates" / "qwen2_5_vl.jinja"
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(**PIXELS),
        tokenizer=tokenizer(of),
        video_processor=Qwen2VLVideoProcessor(**PIXELS),
        chat_template=template.read_text(encoding="utf-8"),
    )


def build(folder: Path, wheel: Path | None = None) -> None:
    """Write the processor into `folder`, whole or not at all."""
    compat.install()
    with tempfile.TemporaryDirectory(prefix="vzero-qwen-") as scratch:
        of = ranks(wheel or fetched(Path(scratch)))
    with artefacts.atomic_folder(folder) as staging:
        processor(of).save_pretrained(staging)


def main() -> int:
    parser = argparse.ArgumentParser(description="Build Qwen2.5-VL's processor without its weights.")
    parser.add_argument("--out", type=Path, default=cache())
    parser.add_argument("--wheel", type=Path, help=f"of {PIN.split()[0]}, where pip cannot fetch it")
    given = parser.parse_args()
    try:
        build(given.out, given.wheel)
    except VZeroError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(given.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
