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
from vzero.config import GrpoSettings, Preset
from vzero.rollout.vllm_engine import CPU_CACHE_GIB

FLOAT, HALF = 4, 2
GPU_ALLOWANCE = 3 * 2**30  # CUDA context, NCCL buffers, allocator fragmentation: assumed, not measured
# A stage's process with torch, transformers, TRL and the pocket model loaded: measured (results/plan).
CPU_ALLOWANCE = 570 * 2**20
HEAD_TILE = 4096  # completion tokens whose vocabulary scores TRL's fused head holds at a time
POLICY_SHARE = "the policy's engine (vLLM's share)"
SOLVER_SHARE = "frozen Solver (vLLM's share)"
SOLVER_KV = "the frozen Solver's keys and values"
PROMPT_TEXT = (
    512  # tokens of instructions and question besides the picture: the paper filters prompts at 1,024
)

Parts = dict[str, float]


@dataclass(frozen=True)
class Phase:
    """One phase on the busiest device: `parts` bytes by name; `device` says which kind."""

    name: str
    device: str  # "training" or "solver"
    parts: Parts

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
    device = _Device(preset, size, picture, card)
    states, engine = device.states(), device.frozen_engine()
    fixed = {"allowance": float(CPU_ALLOWANCE if card is None else GPU_ALLOWANCE)}
    beside = engine if preset.launch.solver_gpus == 0 and preset.engine.name != "server" else {}
    loaded = {name: value for name, value in beside.items() if name != SOLVER_KV}
    written = preset.questioner.write.max_new_tokens
    longest = {"questioner": picture, "solver": 2 * picture + written}  # prompts, on the CPU
    found = []
    for role, grpo in (("questioner", preset.questioner.grpo), ("solver", preset.solver.grpo)):
        prompt = longest[role] if card is None else picture + PROMPT_TEXT
        frozen = loaded if role == "questioner" else {}  # the Solver's labels are made before it is trained
        lasting = {key: states[key] for key in ("weights", "optimizer", "reference")}
        rollout = {**lasting, **device.rollout(grpo, prompt), **frozen, **fixed}
        update = {**states, **device.activations(grpo, prompt), **frozen, **fixed}
        found.append(Phase(f"{role}: rollout", "training", rollout))
        found.append(Phase(f"{role}: update", "training", update))
    if beside:
        found.append(Phase("questioner: votes", "training", {**states, **beside, **fixed}))
    where = "solver" if preset.launch.solver_gpus else "training"
    found.append(Phase("votes and labels", where, {**engine, **fixed}))
    return found


def trained(preset: Preset, size: ModelSize) -> int:
    """Weights that get a gradient."""
    if preset.lora is not None:
        return preset.lora.rank * size.adapters
    frozen = preset.questioner.grpo.freeze_vision and preset.solver.grpo.freeze_vision
    return size.total - (size.vision if frozen else 0)


@dataclass(frozen=True)
class _Device:
    """What one device holds, kind by kind; for the fields see `phases`."""

    preset: Preset
    size: ModelSize
    picture: int
    card: float | None

    def states(self) -> Parts:
        """What training holds all the time, a device's share."""
        launch, size, learned = self.preset.launch, self.size, trained(self.preset, self.size)
        if self.preset.lora is not None:
            # The frozen base in bfloat16 is its own reference: adapters are switched off for it.
            return {
                "weights": HALF * size.total + FLOAT * learned,
                "gradients": FLOAT * learned,
                "optimizer": 8.0 * learned,
                "reference": 0.0,
            }
        split = launch.gpus * launch.nodes if launch.strategy == "fsdp2" else 1
        found = {
            "weights": FLOAT * size.total / split,
            "gradients": FLOAT * learned / split,
            "optimizer": 8.0 * learned / split,
            "reference": FLOAT * size.total / split,
        }
        if launch.gpus:
            gathered = HALF * (2 * size.block + size.embedding) if split > 1 else HALF * size.total
            found["bfloat16 copies"] = float(gathered)
        return found

    def frozen_engine(self) -> Parts:
        """The frozen model's engine: weights, and keys and values of all sequences that run at once at their
        longest; vLLM takes its share of the card whatever it needs, and needs memory for its weights and one
        longest sequence."""
        preset, size = self.preset, self.size
        item = FLOAT if self.card is None else HALF
        weights = float(item * size.total)
        kinds = (preset.solver.votes, preset.questioner.votes, preset.questioner.write)
        sampling = max(kinds, key=lambda one: one.max_new_tokens)
        text = preset.questioner.write.max_new_tokens if self.card is None else PROMPT_TEXT
        prompt = self.picture + text
        longest = prompt + sampling.max_new_tokens
        if preset.engine.name != "transformers" and self.card is not None:
            least = item * size.kv * (preset.engine.max_model_len or longest)
            return {SOLVER_SHARE: max(preset.engine.gpu_memory * self.card, weights + least)}
        running = min(preset.engine.batch_sequences, preset.images.count * sampling.n)
        # A running sequence keeps its own completion, and its share of a prompt that all n have in common.
        kv = item * size.kv * running * (prompt / sampling.n + sampling.max_new_tokens)
        return {"frozen Solver": weights, SOLVER_KV: float(kv)}

    def rollout(self, grpo: GrpoSettings, prompt: int) -> Parts:
        """What drawing from the policy adds: keys and values of the sequences that run at once at their
        longest, and an engine's weights."""
        preset, size, launch = self.preset, self.size, self.preset.launch
        if preset.rollouts.engine == "vllm":
            if self.card is None:
                cache, copies = float(CPU_CACHE_GIB) * 2**30, float(FLOAT * size.total)
                return {"keys and values": cache, "weights for rollouts": copies}
            longest = preset.engine.max_model_len or prompt + grpo.max_completion_tokens
            least = float(HALF * (size.total + size.kv * longest))
            return {POLICY_SHARE: max(preset.rollouts.gpu_memory * self.card, least)}
        several = launch.strategy != "single"
        each = grpo.prompts_per_generation * grpo.group_size / (launch.gpus * launch.nodes if several else 1)
        running = min(preset.engine.batch_sequences, each)
        sequence = prompt / grpo.group_size + grpo.max_completion_tokens
        kept = (HALF if several else FLOAT) * size.kv * running * sequence
        copies = float(HALF * size.total if several else 0)
        return {"keys and values": float(kept), "weights for rollouts": copies}

    def activations(self, grpo: GrpoSettings, prompt: int) -> Parts:
        """Of the longest micro-batch. Prompts and pictures are computed once a group (vzero.grpo.packing);
        while one layer goes backward, half as much again is held in gradients."""
        size, groups = self.size, max(1, grpo.micro_batch // grpo.group_size)
        tokens = groups * prompt + grpo.micro_batch * grpo.max_completion_tokens
        patches = 4 * groups * self.picture
        scored = min(HEAD_TILE, grpo.micro_batch * grpo.max_completion_tokens)
        head = {"vocabulary scores": 2.0 * FLOAT * scored * size.vocabulary}
        tower = 0 if grpo.freeze_vision else patches * size.vision_hidden
        if self.card is None:
            numbers = tokens * _layer_numbers(size) * size.layers + 12 * tower * size.vision_layers
            return {"activations": float(FLOAT * numbers), **head}
        inputs = float(FLOAT * tokens * size.hidden * size.layers + FLOAT * tower * size.vision_layers)
        recomputed = 1.5 * HALF * tokens * _layer_numbers(size)
        return {"layer inputs": inputs, "one layer, recomputed": recomputed, **head}


def _layer_numbers(size: ModelSize) -> int:
    """Numbers a token that one decoder layer keeps for its backward: two norms' inputs and outputs, queries,
    keys, values, the attention's output, and the gate, its activation, the up projection and their
    product."""
    return 4 * size.hidden + 2 * size.heads_width + 2 * size.kv_width + 4 * size.intermediate
