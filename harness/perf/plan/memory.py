"""Memory of one GPU (or of one process on the CPU) in each phase, in parts that can be checked by hand. Bytes
throughout.

Policies are float32 weights trained under bfloat16 autocast, as `vzero.grpo` loads them, so a trained weight
costs 4 bytes, its gradient 4 and Adam's two moments 8 (in the host's memory with
`launch.optimizer_states = "host"`). The frozen reference keeps in bfloat16 what autocast would round, and
embeddings and head in float32. FSDP2 splits all of these over the processes that train. Frozen models answer
in bfloat16 (float32 on the CPU).

A policy that one process trains draws its own rollouts, at the precision of its weights, or a vLLM engine
does that takes its share of the card and sleeps while the policy is updated (`rollouts.engine`). One that
several train is drawn from by an engine on the same GPU, with weights and keys in bfloat16, its batch split
over the processes.

Activations of an update follow from the longest micro-batch that the preset allows. With gradient
checkpointing (on GPUs) the fuller of two moments counts: the end of the forward pass, with the input of every
layer and autocast's copies of the weights; and the backward pass, with the inputs, all that one layer
computes, and the gradient of the head, which TRL's fused head sums apart. FSDP2 gathers weights in bfloat16,
and hands layers bfloat16: its backward pass is fuller than its forward. Without checkpointing (on the CPU)
all that every layer computes is kept. Kernels' scratch, fragmentation and the CUDA context are a fixed
allowance.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.cost.shapes import ModelSize
from vzero.config import EngineConfig, GrpoSettings, Preset, SamplingConfig
from vzero.rollout.vllm_engine import CPU_CACHE_GIB

FLOAT, HALF = 4, 2
GPU_ALLOWANCE = 1.5 * 2**30  # CUDA context, NCCL buffers, allocator fragmentation: assumed, not measured
# A stage's process with torch, transformers, TRL and the pocket model loaded: measured (results/plan).
CPU_ALLOWANCE = 570 * 2**20
VLLM_WORK = 1.0 * 2**30  # vLLM's activations, CUDA graphs and profile run of the tower: assumed
HEAD_TILE = 4096, 32768  # completion tokens, words: the scores that TRL's fused head holds at a time
POLICY_SHARE = "the policy's engine (vLLM's share)"
SOLVER_SHARE = "frozen Solver (vLLM's share)"
SOLVER_KV = "the frozen Solver's keys and values"
# Tokens of a prompt besides its picture, and besides the question that a Solver's holds, by
# `Preset.prompt_format`; of Qwen2.5's tokenizer for "natural" (tests/unit/test_qwen_tokenizer.py).
INSTRUCTIONS = {"natural": (245, 107), "pocket": (12, 12)}
QUESTION = 400  # tokens of the longest question that a plan allows for; the paper drops prompts over 1,024

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


@dataclass(frozen=True)
class MicroBatchSize:
    """What an update's activations follow from: packed `tokens`, of which so many are `scored`, and patches
    of pictures."""

    tokens: int
    scored: int
    patches: int


def longest_prompt(preset: Preset, role: str, picture: int, on_gpu: bool = True) -> int:
    """Tokens, the picture's among them."""
    asking, solving = INSTRUCTIONS[preset.prompt_format]
    if role == "questioner":
        return picture + asking
    return picture + solving + (QUESTION if on_gpu else preset.questioner.write.max_new_tokens)


def phases(preset: Preset, size: ModelSize, picture: int, card: float | None) -> list[Phase]:
    """Every phase that could be the fullest.

    Args:
        picture: tokens of a picture.
        card: bytes of one GPU, of which vLLM takes a share; None on the CPU.
    """
    device = _Device(preset, size, picture, card)
    engine = device.frozen_engine(preset.engine, "solver", preset.questioner.votes)
    fixed = {"allowance": float(CPU_ALLOWANCE if card is None else GPU_ALLOWANCE)}
    beside = engine if preset.launch.solver_gpus == 0 and preset.engine.name != "server" else {}
    loaded = {name: value for name, value in beside.items() if name != SOLVER_KV}
    states = device.states()
    # Gradients are freed after each step; a generation batch is drawn and scored between steps.
    lasting = {key: states[key] for key in ("weights", "optimizer", "reference")}
    found = []
    for role, grpo in (("questioner", preset.questioner.grpo), ("solver", preset.solver.grpo)):
        prompt = longest_prompt(preset, role, picture, card is not None)
        frozen = loaded if role == "questioner" else {}  # the Solver's labels are made before it is trained
        rollout = {**lasting, **device.rollout(grpo, prompt), **frozen, **fixed}
        micro = longest_micro_batch(grpo, prompt, size.merge**2 * picture)
        update = {**states, **device.activations(grpo, micro), **frozen, **fixed}
        found.append(Phase(f"{role}: load", "training", {**lasting, **device.loading(), **frozen, **fixed}))
        found.append(Phase(f"{role}: rollout", "training", rollout))
        found.append(Phase(f"{role}: update", "training", update))
    alone = {} if SOLVER_SHARE in engine else fixed  # vLLM's share holds its own context
    if beside:
        found.append(Phase("questioner: votes", "training", {**lasting, **beside, **fixed}))
    elif preset.launch.solver_gpus:
        found.append(Phase("questioner: votes", "solver", {**engine, **alone}))
    votes = device.frozen_engine(preset.bulk_engine(), "solver", preset.solver.votes)
    questions = device.frozen_engine(preset.bulk_engine(), "questioner", preset.questioner.write)
    found.append(Phase("votes and labels", "training", {**votes, **alone}))
    found.append(Phase("questions", "training", {**questions, **alone}))
    return found


def small_shares(preset: Preset, size: ModelSize, picture: int, card: float) -> list[str]:
    """Settings that give vLLM less of the card than it needs, a sentence each."""
    device, solving = _Device(preset, size, picture, card), preset.solver
    prompt = longest_prompt(preset, "solver", picture)
    wanted = {}
    if preset.engine.name != "transformers":
        wanted["engine"] = preset.engine.gpu_memory, device.least(prompt, solving.votes.max_new_tokens)
    if preset.rollouts.engine == "vllm":
        least = device.least(prompt, solving.grpo.max_completion_tokens)
        wanted["rollouts"] = preset.rollouts.gpu_memory, least
    return [
        f"vLLM's share, {key}.gpu_memory = {share:g}, is less than the {least / 1e9:.0f} GB it needs."
        for key, (share, least) in wanted.items()
        if least > share * card
    ]


def longest_micro_batch(grpo: GrpoSettings, prompt: int, patches: int) -> MicroBatchSize:
    """Every completion as long as is allowed; prompts and pictures once a group (vzero.grpo.packing)."""
    groups, scored = (
        max(1, grpo.micro_batch // grpo.group_size),
        grpo.micro_batch * grpo.max_completion_tokens,
    )
    return MicroBatchSize(groups * prompt + scored, scored, groups * patches)


def cached_tokens(rows: float, prompts: float, prompt: int, completion: int) -> float:
    """Tokens that the transformers engine's cache has room for when so many completions of so many prompts
    end at their longest (vzero.rollout.kv_cache): prompts once, own tokens in columns that grow by a
    quarter."""
    columns = 8
    while columns < completion - 1:
        columns += max(8, columns // 4)
    return prompts * prompt + rows * columns


def cache_at_most(slots: int, requests: float, n: int, prompt: int, completion: int) -> float:
    """`cached_tokens` of so many requests, `n` completions each. While slots are refilled a prompt stays
    until the last of its completions has ended: simulated with log-normal lengths (sigma 1), 2.7 times as
    many stay as fill the slots, at most 3.2."""
    rows = min(slots, requests * n)
    return cached_tokens(rows, min(rows, requests, 3 * rows / n), prompt, completion)


def of_update(preset: Preset, size: ModelSize, role: str, micro: MicroBatchSize, card: float) -> Parts:
    """What PyTorch's allocator holds on a GPU while this very micro-batch is differentiated."""
    device = _Device(preset, size, 0, card)
    grpo: GrpoSettings = getattr(preset, role).grpo
    return {**device.states(), **device.activations(grpo, micro)}


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

    @property
    def split(self) -> int:
        """Processes that share one copy of the weights."""
        launch = self.preset.launch
        return launch.gpus * launch.nodes if launch.strategy == "fsdp2" else 1

    def states(self) -> Parts:
        """What training holds all the time, a device's share."""
        size, learned = self.size, trained(self.preset, self.size)
        if self.preset.lora is not None:
            # The frozen base in bfloat16 is its own reference: adapters are switched off for it.
            return {
                "weights": HALF * size.total + FLOAT * learned,
                "gradients": FLOAT * learned,
                "optimizer": 8.0 * learned,
                "reference": 0.0,
            }
        reference = float(FLOAT * size.total)
        if self.card is not None:
            whole = FLOAT * size.embeddings if self.split == 1 else HALF * size.embeddings
            reference = HALF * (size.total - size.embeddings) + whole
        hosted = self.preset.launch.optimizer_states == "host" and self.card is not None
        optimizer = 8.0 * size.embedding if hosted else 8.0 * learned  # hosted: the largest visits
        found = {
            "weights": FLOAT * size.total,
            "gradients": FLOAT * learned,
            "optimizer": optimizer,
            "reference": reference if self.preset.solver.grpo.kl_coefficient else 0.0,
        }
        return {name: value / self.split for name, value in found.items()}

    def loading(self) -> Parts:
        """The largest tensor on its way from the file, beside the weights that are there."""
        return {"weights on their way": float(FLOAT * self.size.embedding)} if self.card else {}

    def frozen_engine(self, engine: EngineConfig, role: str, sampling: SamplingConfig) -> Parts:
        """A frozen model's engine that draws so in this role: weights, and keys and values of all sequences
        that run at once at their longest; vLLM takes its share of the card whatever it needs, and needs
        memory for its weights and one longest sequence."""
        preset, size = self.preset, self.size
        item = FLOAT if self.card is None else HALF
        longest = sampling.max_new_tokens
        prompt = longest_prompt(preset, role, self.picture, self.card is not None)
        if engine.name != "transformers" and self.card is not None:
            return {SOLVER_SHARE: max(engine.gpu_memory * self.card, self.least(prompt, longest))}
        tokens = cache_at_most(engine.batch_sequences, preset.images.count, sampling.n, prompt, longest)
        kv = item * size.kv * tokens
        return {"frozen Solver": float(item * size.total), SOLVER_KV: float(kv)}

    def least(self, prompt: int, longest: int) -> float:
        """What vLLM needs at least: weights, one longest sequence, and what it computes on the way."""
        context = self.preset.engine.max_model_len or prompt + longest
        return float(HALF * (self.size.total + self.size.kv * context) + VLLM_WORK)

    def rollout(self, grpo: GrpoSettings, prompt: int) -> Parts:
        """What drawing from the policy adds: keys and values of the sequences that run at once at their
        longest, and an engine's weights."""
        preset, size, launch = self.preset, self.size, self.preset.launch
        if preset.rollouts.engine == "vllm":
            if self.card is None:
                cache, copies = float(CPU_CACHE_GIB) * 2**30, float(FLOAT * size.total)
                return {"keys and values": cache, "weights for rollouts": copies}
            least = self.least(prompt, grpo.max_completion_tokens)
            return {POLICY_SHARE: max(preset.rollouts.gpu_memory * self.card, least)}
        several = launch.strategy != "single"
        requests = grpo.prompts_per_generation / (launch.gpus * launch.nodes if several else 1)
        group, longest = grpo.group_size, grpo.max_completion_tokens
        tokens = cache_at_most(preset.engine.batch_sequences, requests, group, prompt, longest)
        halves = several or (preset.lora is not None and self.card is not None)
        kept = (HALF if halves else FLOAT) * size.kv * tokens
        copies = float(HALF * size.total if several else 0)
        return {"keys and values": float(kept), "weights for rollouts": copies}

    def activations(self, grpo: GrpoSettings, micro: MicroBatchSize) -> Parts:
        """Of one micro-batch."""
        size, learned = self.size, self.preset.lora is None
        sees = learned and not grpo.freeze_vision
        tile = min(HEAD_TILE[0], micro.scored)
        if self.card is None:
            scores = {"vocabulary scores": 2.0 * FLOAT * tile * min(size.vocabulary, HEAD_TILE[1])}
            tower = 12 * micro.patches * size.vision_hidden * size.vision_layers if sees else 0
            numbers = micro.tokens * _layer_numbers(size) * size.layers + tower
            return {"activations": float(FLOAT * numbers), **scores}
        scores = {"vocabulary scores": float(HALF * tile * min(size.vocabulary, HEAD_TILE[1]))}
        # Layers of the language model hand on what embeddings are: float32, or bfloat16 of a frozen model and
        # under FSDP2; the tower's bfloat16.
        handed = FLOAT if learned and self.split == 1 else HALF
        tower = HALF * micro.patches * size.vision_hidden * size.vision_layers if sees else 0
        inputs = float(handed * micro.tokens * size.hidden * (size.layers + 3) + tower)
        scores["pictures"] = float(
            (FLOAT + HALF) * micro.patches * size.patch_values
        )  # as they come, and rounded
        layer = {"one layer, recomputed": micro.tokens * _layer_bytes(size, adapted=not learned)}
        if self.split > 1:
            # Of a layer: its weights, the next one's, and the buffer these come in; then its gradient, and
            # the float32 numbers in which that is summed over processes.
            parts = HALF * size.embeddings + (4 * HALF + FLOAT) * size.block
            layer |= {"the head's gradient": HALF * size.flops.head_weights, "gathered layers": float(parts)}
            return {"layer inputs": inputs, **layer, **scores}
        copied = trained(self.preset, size) - size.embeddings  # autocast keeps copies of what is trained
        copies = {"bfloat16 copies": float(HALF * copied if learned else 0)}
        forward = {"layer inputs": inputs, **copies, **scores}
        head = FLOAT * (size.flops.head_weights + micro.scored * size.hidden) if learned else 0
        backward = {"layer inputs": inputs, **layer, "the head's gradient": float(head), **scores}
        return max(forward, backward, key=lambda parts: sum(parts.values()))


def _layer_bytes(size: ModelSize, adapted: bool) -> float:
    """Of a token at the fullest moment of a layer that is computed again: half as much as it keeps is held in
    gradients while it goes backward. Adapters (PEFT) keep the input of each linear layer once more, and while
    the widest is computed its input stands in float32 as well."""
    kept = HALF * _layer_numbers(size)
    if not adapted:
        return 1.5 * kept
    inputs = 5 * size.hidden + size.heads_width + size.intermediate
    return float(kept + HALF * inputs + FLOAT * size.intermediate)


def _layer_numbers(size: ModelSize) -> int:
    """Numbers a token that one decoder layer keeps for its backward: two norms' inputs and outputs, queries,
    keys, values, the attention's output, and the gate, its activation, the up projection and their
    product."""
    return 4 * size.hidden + 2 * size.heads_width + 2 * size.kv_width + 4 * size.intermediate
