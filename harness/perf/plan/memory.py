"""Memory of one GPU (or of one process on the CPU) in each phase, in parts that can be checked by hand. Bytes
throughout.

Policies are float32 weights trained under bfloat16 autocast, as `vzero.grpo` loads them, so a trained weight
costs 4 bytes, its gradient 4 and Adam's two moments 8; the frozen reference is a second float32 copy. FSDP2
splits these four over the processes that train; a rank then gathers two layers and the embedding at a time in
bfloat16. Frozen models answer in bfloat16 (float32 on the CPU).

A policy that one process trains draws its own rollouts, at the precision of its weights, or a vLLM engine
does that takes its share of the card and sleeps while the policy is updated (`rollouts.engine`). One that
several train is drawn from by an engine on the same GPU, with weights and keys in bfloat16, its batch split
over the processes.

Activations of an update follow from the longest micro-batch that the preset allows: with gradient
checkpointing (on GPUs) the input of every layer and all that one layer computes, without it (on the CPU) all
that every layer computes. What this counts for a layer is listed at `_layer_numbers`. Kernels' scratch,
fragmentation and the CUDA context are a fixed allowance.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.perf.plan.shapes import ModelSize
from vzero.config import GrpoSettings, Preset, SamplingConfig
from vzero.rollout.vllm_engine import CPU_CACHE_GIB

FLOAT, HALF = 4, 2
GPU_ALLOWANCE = 3 * 2**30  # CUDA context, NCCL buffers, allocator fragmentation: assumed, not measured
CPU_ALLOWANCE = (
    570 * 2**20
)  # a stage's process with torch, transformers, TRL and the pocket model loaded: measured (results/plan)
HEAD_TILE = 4096  # completion tokens whose vocabulary scores TRL's fused head holds at a time
POLICY_SHARE = "the policy's engine (vLLM's share)"
SOLVER_SHARE = "frozen Solver (vLLM's share)"
SOLVER_KV = "the frozen Solver's keys and values"
PROMPT_TEXT = (
    512  # tokens of instructions and question besides the picture: the paper filters prompts at 1,024
)


@dataclass(frozen=True)
class Phase:
    """One phase on the busiest device: `parts` bytes by name; `device` says which kind."""

    name: str
    device: str  # "training" or "solver"
    parts: dict[str, float]

    @property
    def total(self) -> float:
        """All parts."""
        return sum(self.parts.values())


def phases(preset: Preset, size: ModelSize, picture: int, card: float | None) -> list[Phase]:
    """Every phase that could be the fullest.

    Args:
        picture: tokens of a picture.
        card: bytes of one GPU, of which vLLM takes a share; None on the CPU.
    """
    states, engine = _states(preset, size), _engine(preset, size, picture, card)
    trains = [
        ("questioner", preset.questioner.grpo, picture + PROMPT_TEXT if card is not None else picture),
        (
            "solver",
            preset.solver.grpo,
            picture + PROMPT_TEXT
            if card is not None
            else 2 * picture + preset.questioner.write.max_new_tokens,
        ),
    ]
    found = []
    beside = engine if preset.launch.solver_gpus == 0 and preset.engine.name != "server" else {}
    idle = {name: value for name, value in beside.items() if name != SOLVER_KV}
    for role, grpo, prompt in trains:
        frozen = idle if role == "questioner" else {}  # the Solver's labels are made before it is trained
        rollout = {key: states[key] for key in ("weights", "optimizer", "reference")}
        drawn = _rollout(size, preset, grpo, prompt, card)
        found.append(Phase(f"{role}: rollout", "training", {**rollout, **drawn, **frozen, **_fixed(card)}))
        update = {**states, **_activations(size, grpo, prompt, picture, card is not None)}
        found.append(Phase(f"{role}: update", "training", {**update, **frozen, **_fixed(card)}))
    if beside:
        found.append(Phase("questioner: votes", "training", {**states, **beside, **_fixed(card)}))
    found.append(
        Phase(
            "votes and labels",
            "solver" if preset.launch.solver_gpus else "training",
            {**engine, **_fixed(card)},
        )
    )
    return found


def trained(preset: Preset, size: ModelSize) -> int:
    """Weights that get a gradient."""
    if preset.lora is not None:
        return preset.lora.rank * size.adapters
    frozen = preset.questioner.grpo.freeze_vision and preset.solver.grpo.freeze_vision
    return size.total - (size.vision if frozen else 0)


def _states(preset: Preset, size: ModelSize) -> dict[str, float]:
    """What training holds all the time, a device's share."""
    split = preset.launch.gpus * preset.launch.nodes if preset.launch.strategy == "fsdp2" else 1
    learned = trained(preset, size)
    if (
        preset.lora is not None
    ):  # the frozen base in bfloat16 is its own reference: adapters are switched off for it
        return {
            "weights": HALF * size.total + FLOAT * learned,
            "gradients": FLOAT * learned,
            "optimizer": 8.0 * learned,
            "reference": 0.0,
        }
    found = {
        "weights": FLOAT * size.total / split,
        "gradients": FLOAT * learned / split,
        "optimizer": 8.0 * learned / split,
        "reference": FLOAT * size.total / split,
    }
    if preset.launch.gpus:
        gathered = HALF * (2 * size.block + size.embedding) if split > 1 else HALF * size.total
        found["bfloat16 copies"] = float(gathered)
    return found


def _engine(preset: Preset, size: ModelSize, picture: int, card: float | None) -> dict[str, float]:
    """The frozen model's engine: weights, and keys and values of all sequences that run at once at their
    longest; vLLM takes its share of the card whatever it needs, and needs room for its weights and one
    longest sequence."""
    item = FLOAT if card is None else HALF
    weights = float(item * size.total)
    sampling = max(
        preset.solver.votes,
        preset.questioner.votes,
        preset.questioner.write,
        key=lambda one: one.max_new_tokens,
    )
    prompt = picture + (PROMPT_TEXT if card is not None else preset.questioner.write.max_new_tokens)
    longest = prompt + sampling.max_new_tokens
    if preset.engine.name != "transformers" and card is not None:
        least = item * size.kv * (preset.engine.max_model_len or longest)
        return {SOLVER_SHARE: max(preset.engine.gpu_memory * card, weights + least)}
    running = min(preset.engine.batch_sequences, preset.images.count * sampling.n)
    kv = item * size.kv * running * _cached(prompt, sampling)
    return {"frozen Solver": weights, SOLVER_KV: float(kv)}


def _cached(prompt: int, sampling: SamplingConfig) -> float:
    """Tokens a running sequence keeps: its own completion, and its share of a prompt that all samples of a
    request have in common."""
    return prompt / sampling.n + sampling.max_new_tokens


def _rollout(
    size: ModelSize, preset: Preset, grpo: GrpoSettings, prompt: int, card: float | None
) -> dict[str, float]:
    """What drawing from the policy adds: keys and values of the sequences that run at once at their longest,
    and an engine's weights."""
    launch = preset.launch
    if preset.rollouts.engine == "vllm":
        if card is None:
            return {
                "keys and values": float(CPU_CACHE_GIB) * 2**30,
                "weights for rollouts": float(FLOAT * size.total),
            }
        longest = preset.engine.max_model_len or prompt + grpo.max_completion_tokens
        return {
            POLICY_SHARE: max(
                preset.rollouts.gpu_memory * card, float(HALF * (size.total + size.kv * longest))
            )
        }
    several = launch.strategy != "single"
    each = grpo.prompts_per_generation * grpo.group_size / (launch.gpus * launch.nodes if several else 1)
    running = min(preset.engine.batch_sequences, each)
    kept = (
        (HALF if several else FLOAT)
        * size.kv
        * running
        * (prompt / grpo.group_size + grpo.max_completion_tokens)
    )
    return {
        "keys and values": float(kept),
        "weights for rollouts": float(HALF * size.total if several else 0),
    }


def _layer_numbers(size: ModelSize) -> int:
    """Numbers a token that one decoder layer keeps for its backward: two norms' inputs and outputs, queries,
    keys, values, the attention's output, and the gate, its activation, the up projection and their
    product."""
    return 4 * size.hidden + 2 * size.heads_width + 2 * size.kv_width + 4 * size.intermediate


def _activations(
    size: ModelSize, grpo: GrpoSettings, prompt: int, picture: int, checkpointed: bool
) -> dict[str, float]:
    """Of the longest micro-batch. Prompts and pictures are computed once a group (vzero.grpo.packing); while
    one layer goes backward, half as much again is held in gradients."""
    groups = max(1, grpo.micro_batch // grpo.group_size)
    tokens = groups * prompt + grpo.micro_batch * grpo.max_completion_tokens
    patches = 4 * groups * picture
    scored = min(HEAD_TILE, grpo.micro_batch * grpo.max_completion_tokens)
    head = 2.0 * FLOAT * scored * size.vocabulary
    tower = 0 if grpo.freeze_vision else patches * size.vision_hidden
    if checkpointed:
        inputs = float(FLOAT * tokens * size.hidden * size.layers + FLOAT * tower * size.vision_layers)
        return {
            "layer inputs": inputs,
            "one layer, recomputed": 1.5 * HALF * tokens * _layer_numbers(size),
            "vocabulary scores": head,
        }
    layers = float(FLOAT * (tokens * _layer_numbers(size) * size.layers + 12 * tower * size.vision_layers))
    return {"activations": layers, "vocabulary scores": head}


def _fixed(card: float | None) -> dict[str, float]:
    return {"allowance": float(CPU_ALLOWANCE if card is None else GPU_ALLOWANCE)}
