"""The preset of an experiment: its images, both roles, the evaluation."""

from __future__ import annotations

from typing import Any, Literal, TypeVar

from pydantic import Field, model_validator

from vzero.config.engines import EngineConfig, LaunchConfig, RolloutsConfig
from vzero.config.training import GrpoSettings, LoraConfig, SamplingConfig, Section

OWN = "own"  # the name of a reward that comes as a text
OtherMethod = Literal["r_zero", "visplay", "evolmm", "token_entropy"]  # files in vzero/arms/methods
Defect = Literal["article_votes", "unparsed_dropped", "three_prompts", "label_selection"]


class ImagesConfig(Section):
    """Where unlabeled images come from."""

    source: str = Field("pocket", description='"pocket", a folder, Parquet files, or a hub id')
    column: str | None = Field(None, description="of a table with several columns of images")
    split: str | None = Field(None, description="of a table in several files: a part of their names")
    count: int = Field(ge=1, description="at most this many images are used")
    max_megapixels: float = Field(50.0, gt=0, description="larger pictures are skipped, counted and named")
    # Larger ones are shrunk to this before any model sees them; None leaves it to the model's processor.
    shrink_megapixels: float | None = Field(None, gt=0)


class QuestionerConfig(Section):
    """Training the Questioner (or leaving it as it is), then letting it write."""

    grpo: GrpoSettings
    trained: bool = Field(True, description="false leaves it the base model in every iteration")
    reward: Literal["dual_track", "uncertainty", "zero_sum", "capped_mismatch", OtherMethod, "own"] = (
        "dual_track"
    )
    reward_source: str | None = Field(None, description="of the reward own: the text of a reward file")
    intuition: Literal["questioner", "base"] = Field(
        "questioner", description="who gives the intuitive answer"
    )
    votes_see: Literal["image", "nothing"] = Field("image", description="shown to the reward's Solver")
    # Of the frozen Solver's greedy answer: of how many of its first tokens the reward is told the entropy.
    token_entropies: int = Field(0, ge=0)
    votes: SamplingConfig
    write: SamplingConfig
    per_image: int = Field(1, ge=1, description="questions written about each image")

    @model_validator(mode="after")
    def _own_reward_is_there(self) -> QuestionerConfig:
        if (self.reward == OWN) != (self.reward_source is not None):
            raise ValueError('reward = "own" needs reward_source, and no other reward has one')
        if self.reward == "token_entropy" and not self.token_entropies:
            raise ValueError('reward = "token_entropy" needs token_entropies = 5, the paper\'s number')
        return self


class SolverConfig(Section):
    """Voting on the questions, keeping those between two confidences (both ends kept), training on them."""

    grpo: GrpoSettings
    votes: SamplingConfig
    keep_low: float = Field(0.3, ge=0, le=1)
    keep_high: float = Field(0.8, ge=0, le=1)
    filter: Literal["confidence", "none", "own"] = Field("confidence", description="none keeps every label")
    questions: Literal["written", "recycled", "both"] = Field(
        "written",
        description="recycled: those of the Questioner's own training, with the votes of its reward",
    )
    answerable: bool = Field(False, description="keep only majorities that survive moved options")
    labels: Literal["majority", "random", "truth", "none", "own"] = "majority"
    objective: Literal["labels", "group_majority", "consistency", "random", "format", "sft", "own"] = Field(
        "labels", description="what the Solver is trained on (vzero.arms.objectives)"
    )
    reward_source: str | None = Field(None, description="of the objective own: the text of a reward file")
    selection_source: str | None = Field(None, description="of own labels, an own filter: that of theirs")

    @model_validator(mode="after")
    def _settings_agree(self) -> SolverConfig:
        if self.keep_low > self.keep_high:
            raise ValueError("keep_low must not be above keep_high")
        unlabelled = self.objective in ("group_majority", "consistency", OWN) and not self.answerable
        if self.labels == "none" and not unlabelled:
            raise ValueError(
                'labels = "none" draws no votes, so it needs objective "group_majority", "consistency" or'
                ' "own", and not answerable'
            )
        if (self.objective == OWN) != (self.reward_source is not None):
            raise ValueError('objective = "own" needs reward_source, and no other objective has one')
        if (OWN in (self.labels, self.filter)) != (self.selection_source is not None):
            raise ValueError(
                'labels = "own" or filter = "own" needs selection_source, and nothing else has one'
            )
        if self.answerable and self.filter != "confidence":
            raise ValueError(
                'answerable checks what the confidence filter kept: it needs filter = "confidence"'
            )
        if self.objective == "sft" and (self.labels != "majority" or self.questions != "written"):
            raise ValueError(
                'objective = "sft" learns from the texts of the votes for the majority: it needs labels ='
                ' "majority" and questions = "written"'
            )
        if self.labels == "none" and self.questions != "written":
            raise ValueError(
                'recycled questions come with votes: labels = "none" needs questions = "written"'
            )
        return self


class EvaluationConfig(Section):
    """Held-out suites: greedy, and `sampled.n` samples for mean, majority and pass rates."""

    suites: tuple[str, ...] = ("pocket_math", "pocket_logic", "pocket_vision")
    split: Literal["dev", "test"] = Field("test", description="dev is for choosing settings")
    images: Literal["own", "shuffled"] = Field("own", description="shuffled: another question's of the suite")
    items_per_family: int = Field(ge=1, le=10_000, description="of the pocket suites")
    data: str = Field("runs/data", description="where benchmark suites lie, as `fetch` writes them")
    data_sha256: str | None = Field(None, description="of their content; a run writes it down when it begins")
    limit: int | None = Field(None, ge=1, description="of rows of each suite: an even sample")
    greedy: SamplingConfig
    sampled: SamplingConfig
    # Words of the last Solver's answers that the base is made to begin its own with, once more; 0: not done.
    prefill_words: int = Field(0, ge=0)


S = TypeVar("S", bound=Section)
LIMITS = ("max_new_tokens", "max_completion_tokens", "max_model_len")


def _longer(section: S, tokens: int) -> S:
    """With `tokens` more in each of its limits, and in those of its sections."""
    changes: dict[str, Any] = {}
    for name, value in section:
        if name in LIMITS and value is not None:
            changes[name] = value + tokens
        elif isinstance(value, Section):
            changes[name] = _longer(value, tokens)
    return section.model_copy(update=changes)


class Preset(Section):
    """A whole experiment."""

    name: str
    model: str = Field("pocket", description='"pocket" (the shipped base checkpoint), a folder, or a hub id')
    prompt_format: Literal["pocket", "natural"] = "pocket"
    iterations: int = Field(2, ge=1, le=1000)
    seed: int = 0
    evidence: bool = Field(True, description="false: too small to say anything; nothing of it is judged")
    arm: str = Field("v-zero", description="what the switches below amount to: a name in vzero.arms")
    # At most so many questions train the Solver in each iteration; a grid of arms takes them from v-zero.
    step_matched: tuple[int, ...] | None = None
    defects: tuple[Defect, ...] = Field((), description="faults of public code to switch on")
    images: ImagesConfig
    questioner: QuestionerConfig
    solver: SolverConfig
    evaluation: EvaluationConfig
    engine: EngineConfig = EngineConfig()
    rollouts: RolloutsConfig = RolloutsConfig()
    launch: LaunchConfig = LaunchConfig()
    lora: LoraConfig | None = None

    @model_validator(mode="after")
    def _parts_fit(self) -> Preset:
        for role in (self.questioner, self.solver):
            role.grpo.require_divisible(self.launch.ranks)
        asked = self.questioner
        if self.solver.questions != "written" and not (asked.trained and asked.votes_see == "image"):
            raise ValueError(
                f'solver.questions = "{self.solver.questions}" takes the votes of the Questioner\'s reward:'
                ' it needs questioner.trained = true and questioner.votes_see = "image"'
            )
        if self.engine.thinking and (self.evaluation.prefill_words or self.solver.objective == "sft"):
            raise ValueError(
                "engine.thinking = true has answers that begin by a thought: it needs"
                ' evaluation.prefill_words = 0 and no objective "sft"'
            )
        if asked.token_entropies and self.engine.name != "transformers":
            raise ValueError(
                "questioner.token_entropies are of the whole vocabulary, which servers and vLLM do not tell:"
                ' it needs engine.name = "transformers"'
            )
        serving = self.launch.solver_gpus
        if serving and self.engine.name != "server":
            raise ValueError(
                'launch.solver_gpus are for servers of the frozen Solver; set engine.name = "server", or'
                " solver_gpus = 0"
            )
        if serving and self.engine.gpus and len(self.engine.gpus) != serving:
            raise ValueError(
                f"engine.gpus names {len(self.engine.gpus)} GPUs and launch.solver_gpus = {serving}"
            )
        if self.launch.nodes > 1 and self.engine.name == "server" and asked.trained:
            self._refuse_servers_of_one_machine()
        return self

    def _refuse_servers_of_one_machine(self) -> None:
        """Servers that a training starts by itself listen on the loopback of its first machine."""
        if not (self.launch.solver_gpus or self.engine.urls):
            raise ValueError(
                'with launch.nodes > 1 the servers of engine.name = "server" need GPUs of their own or an'
                " address; set launch.solver_gpus or engine.urls"
            )
        if self.questioner.intuition == "base" and self.iterations > 1:
            raise ValueError(
                'with launch.nodes > 1 and engine.name = "server" the frozen Solver alone is served; set'
                ' questioner.intuition = "questioner", or engine.name = "vllm" without launch.solver_gpus'
            )

    def programs(self) -> dict[str, str]:
        """The settings that are Python and run with the user's rights, by their dotted names."""
        found = {
            "questioner.reward_source": self.questioner.reward_source,
            "solver.reward_source": self.solver.reward_source,
            "solver.selection_source": self.solver.selection_source,
        }
        return {key: text for key, text in found.items() if text is not None}

    def with_thoughts(self) -> Preset:
        """The preset as its stages run: each limit of tokens raised by `engine.thought_tokens`."""
        longer = _longer(self, self.engine.thought_tokens)
        return longer.model_copy(update={"engine": longer.engine.model_copy(update={"thought_tokens": 0})})

    def placed_engine(self) -> EngineConfig:
        """The engine, its servers on the GPUs after those that train unless it names its own."""
        launch = self.launch
        if not launch.solver_gpus or self.engine.gpus:
            return self.engine
        gpus = tuple(range(launch.gpus, launch.gpus + launch.solver_gpus))
        return self.engine.model_copy(update={"servers": len(gpus), "gpus": gpus})

    def bulk_engine(self) -> EngineConfig:
        """The engine of a stage during which nothing trains (writing, voting, evaluating): vLLM with each GPU
        of a node for itself, a server on every one where there are several."""
        placed, launch = self.placed_engine(), self.launch
        if not launch.gpus or placed.name == "transformers":
            return placed
        gpus = tuple(sorted({*range(launch.gpus), *placed.gpus}))
        several = {"name": "server", "servers": len(gpus), "gpus": gpus} if len(gpus) > 1 else {}
        whole = {"batch_sequences": placed.bulk_sequences, "gpu_memory": placed.bulk_gpu_memory}
        return placed.model_copy(update={**whole, **several})
