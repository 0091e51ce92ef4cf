"""SAC's replay buffer: transitions in flat arrays, one ring per env runner, every observation stored once."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow.fs
from numpy.typing import NDArray
from ray.rllib.utils.checkpoints import Checkpointable

from iquitos_rl.algorithms.fragment import Fragment

__all__ = ["ReplayBuffer", "Transitions"]

FORMAT_VERSION = 1
STATE_FILE = "replay_buffer.json"
COLUMNS = ("observations", "actions", "rewards", "terminated", "real")


@dataclass(frozen=True)
class Transitions:
    """A batch of B transitions, each from one environment step.

    Attributes:
        observations: shape (B, O), float32.
        actions: shape (B, A), float32, as the policy drew them.
        rewards: shape (B,), float32.
        next_observations: what followed the step, at the end of an episode too; shape (B, O), float32.
        terminated: whether nothing is worth anything after it, shape (B,), bool; not set by a truncation.
    """

    observations: NDArray[np.float32]
    actions: NDArray[np.float32]
    rewards: NDArray[np.float32]
    next_observations: NDArray[np.float32]
    terminated: NDArray[np.bool_]


class ReplayBuffer(Checkpointable):
    """The latest transitions of all env runners, drawn uniformly and with replacement.

    A fragment is stored as it comes: row t of a ring holds all environments of a runner at step t, and what
    followed is row t + 1. Rows that were no step (a reset, or the last observation of a fragment) stay
    between the others and are not drawn.

    Args:
        capacity: transitions kept, divided evenly among the samplers; resets and interruptions count too.
        samplers: env runners that will add fragments, >= 1.
        seed: of the draws; None = a fresh one.

    Raises:
        ValueError: a capacity or a number of samplers below 1.
    """

    def __init__(self, capacity: int, *, samplers: int = 1, seed: int | None = None) -> None:
        if capacity < 1 or samplers < 1:
            raise ValueError(f"capacity = {capacity}, samplers = {samplers}: both must be at least 1")
        self._capacity = capacity
        self._samplers = samplers
        self._seed = seed
        self._rng = np.random.default_rng(seed)
        self._rings: dict[int, _Ring] = {}
        self._steps_added = 0

    def __len__(self) -> int:
        """Transitions that can be drawn."""
        return sum(ring.transitions for ring in self._rings.values())

    @property
    def steps_added(self) -> int:
        """Environment steps ever added, those that were overwritten since among them."""
        return self._steps_added

    def add(self, fragments: Iterable[Fragment]) -> None:
        """Store fragments, each in the ring of its runner; the oldest transitions there make room.

        Raises:
            ValueError: a runner that came with another number of environments before, another length of
                observations or actions, more runners than announced, or more environments than capacity.
        """
        for fragment in fragments:
            if fragment.runner not in self._rings:
                self._rings[fragment.runner] = self._new_ring(fragment)
            self._rings[fragment.runner].add(fragment)
            self._steps_added += len(fragment)

    def sample(self, count: int) -> Transitions:
        """Draw transitions, each as likely as any other that is stored.

        Args:
            count: how many, >= 1.

        Raises:
            ValueError: nothing is stored.
        """
        if not len(self):
            raise ValueError("the replay buffer is empty: add steps before drawing from it")
        rings = [self._rings[runner] for runner in sorted(self._rings)]
        # Cells are drawn from all that is written until enough of them are transitions: uniform, and
        # nearly all are, so this is cheaper than an index of those that are.
        ends = np.cumsum([ring.written_cells for ring in rings])
        which = np.empty(count, np.intp)
        cells = np.empty(count, np.intp)
        found = 0
        while found < count:
            drawn = self._rng.integers(ends[-1], size=count - found)
            numbers = np.searchsorted(ends, drawn, side="right")
            drawn -= np.concatenate(([0], ends[:-1]))[numbers]
            accepted = np.empty(len(drawn), bool)
            for number, ring in enumerate(rings):
                own = numbers == number
                accepted[own] = ring.is_transition(drawn[own])
            # In the order of the draws: the learner cuts them into minibatches, each from all rings.
            part = slice(found, found + int(np.count_nonzero(accepted)))
            which[part], cells[part] = numbers[accepted], drawn[accepted]
            found = part.stop
        if len(rings) == 1:
            return rings[0].transitions_at(cells)
        return _gather(rings, which, cells)

    def _new_ring(self, fragment: Fragment) -> _Ring:
        if len(self._rings) == self._samplers:
            raise ValueError(
                f"replay buffer: steps of env runner {fragment.runner}, but its capacity is divided among "
                f"{self._samplers} ({', '.join(map(str, sorted(self._rings)))})"
            )
        _, envs, observations = fragment.observations.shape
        rows = self._capacity // self._samplers // envs
        if rows < 1:
            raise ValueError(
                f"buffer_size = {self._capacity}: must be at least {self._samplers * envs}, one transition "
                f"for each of {envs} environments on each of {self._samplers} env runners"
            )
        for ring in self._rings.values():
            ring.check_lengths(fragment)
        return _Ring(rows, envs, observations, fragment.actions.shape[-1])

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Return what `set_state` needs; arrays are views of what the next steps will overwrite."""
        return {
            "description": self._description(),
            "rings": {runner: ring.written_columns() for runner, ring in self._rings.items()},
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take over contents and draws from a `get_state`.

        Raises:
            ValueError: the buffer it comes from is divided in another way.
        """
        self._take_over(
            state["description"], lambda runner, column, rows: np.copyto(rows, state["rings"][runner][column])
        )

    def get_ctor_args_and_kwargs(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments this buffer was made with."""
        return (self._capacity,), {"samplers": self._samplers, "seed": self._seed}

    def save_to_path(
        self,
        path: Any = None,
        *,
        state: Mapping[str, Any] | None = None,
        filesystem: pyarrow.fs.FileSystem | None = None,
        use_msgpack: bool = False,
    ) -> str:
        """Write the filled part of each array as .npy and the rest as JSON: nothing that could hold code.

        Args:
            path: folder, made if it is missing; RLlib always gives one.
            state: from `get_state`; None = now.
            filesystem: of `path`; None = as its scheme says.
            use_msgpack: no influence.

        Returns:
            The folder.
        """
        filesystem, folder = _locate(path, filesystem)
        filesystem.create_dir(str(folder), recursive=True)
        state = self.get_state() if state is None else state
        for runner, columns in state["rings"].items():
            for name, rows in columns.items():
                with filesystem.open_output_stream(str(folder / _array_file(runner, name))) as file:
                    np.lib.format.write_array(file, rows, allow_pickle=False)
        # Last, so that a folder with this file is complete.
        with filesystem.open_output_stream(str(folder / STATE_FILE)) as file:
            file.write(json.dumps(state["description"], indent=1).encode())
        return str(folder)

    def restore_from_path(
        self,
        path: Any,
        *,
        component: str | None = None,
        filesystem: pyarrow.fs.FileSystem | None = None,
        **kwargs: Any,
    ) -> None:
        """Read what `save_to_path` wrote, straight into the rings.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: it is damaged, of another format, or the buffer it comes from was divided in another
                way.
        """
        filesystem, folder = _locate(path, filesystem)
        with filesystem.open_input_stream(str(folder / STATE_FILE)) as file:
            description = json.loads(file.read())

        def read(runner: int, column: str, rows: NDArray[Any]) -> None:
            name = str(folder / _array_file(runner, column))
            with filesystem.open_input_stream(name) as file:
                _read_into(rows, file, name)

        self._take_over(description, read)

    def _description(self) -> dict[str, Any]:
        return {
            "format_version": FORMAT_VERSION,
            "capacity": self._capacity,
            "samplers": self._samplers,
            "steps_added": self._steps_added,
            "generator": self._rng.bit_generator.state,
            "rings": {str(runner): ring.description() for runner, ring in self._rings.items()},
        }

    def _take_over(self, description: Mapping[str, Any], read: Any) -> None:
        for key, expected in (
            ("format_version", FORMAT_VERSION),
            ("capacity", self._capacity),
            ("samplers", self._samplers),
        ):
            if description[key] != expected:
                raise ValueError(
                    f"replay buffer of the checkpoint: {key} = {description[key]}, here {expected}: restore "
                    "with the buffer_size and the number of env runners that it was saved with"
                )
        rings = {}
        for key, about in description["rings"].items():
            ring = _Ring(about["rows"], about["envs"], about["observations"], about["actions"])
            ring.end = about["end"]
            for name, rows in ring.written_columns().items():
                read(int(key), name, rows)
            ring.transitions = int(np.count_nonzero(ring.real))
            rings[int(key)] = ring
        self._rings = rings
        self._steps_added = description["steps_added"]
        self._rng.bit_generator.state = description["generator"]


class _Ring:
    """The steps of one runner: row `end` holds the observation after the latest one, and the oldest follow.

    One row more than it keeps steps, because the latest step needs a row for what followed it. So of every
    step kept, the row after it is kept too. Rows are counted from the first that was ever written and lie at
    that number modulo the length of the arrays.
    """

    def __init__(self, rows: int, envs: int, observations: int, actions: int) -> None:
        self.rows, self.envs = rows, envs
        # np.zeros: the system provides memory only when a row is first written
        self.observations = np.zeros((rows + 1, envs, observations), np.float32)
        self.actions = np.zeros((rows + 1, envs, actions), np.float32)
        self.rewards = np.zeros((rows + 1, envs), np.float32)
        self.terminated = np.zeros((rows + 1, envs), np.bool_)
        self.real = np.zeros((rows + 1, envs), np.bool_)
        self.end = -1
        self.transitions = 0

    @property
    def written_cells(self) -> int:
        return min(self.end + 1, self.rows + 1) * self.envs

    def description(self) -> dict[str, int]:
        observations, actions = self.observations.shape[-1], self.actions.shape[-1]
        return {
            "rows": self.rows,
            "envs": self.envs,
            "observations": observations,
            "actions": actions,
            "end": self.end,
        }

    def written_columns(self) -> dict[str, NDArray[Any]]:
        written = self.written_cells // self.envs
        return {name: getattr(self, name)[:written] for name in COLUMNS}

    def check_lengths(self, fragment: Fragment) -> None:
        for name in ("observations", "actions"):
            here, there = getattr(self, name).shape[-1], getattr(fragment, name).shape[-1]
            if here != there:
                raise ValueError(
                    f"replay buffer: {name} of length {there} from env runner {fragment.runner}, of length "
                    f"{here} before"
                )

    def add(self, fragment: Fragment) -> None:
        if fragment.observations.shape[1] != self.envs:
            raise ValueError(
                f"replay buffer: env runner {fragment.runner} comes with {fragment.observations.shape[1]} "
                f"environments, {self.envs} before: their number must stay the same"
            )
        self.check_lengths(fragment)
        # Compared as well, because a fragment in between may have been lost on its way.
        continues = fragment.continues and np.array_equal(
            self.observations[self.end % (self.rows + 1)], fragment.observations[0]
        )
        start = self.end if continues and self.end >= 0 else self.end + 1
        steps = len(fragment.rewards)
        kept = slice(max(0, steps - self.rows), None)
        self.end = start + steps
        rows = np.arange(start + kept.start, self.end + 1) % (self.rows + 1)
        self.transitions -= int(np.count_nonzero(self.real[rows]))
        self.observations[rows] = fragment.observations[kept]
        self.actions[rows[:-1]] = fragment.actions[kept]
        self.rewards[rows[:-1]] = fragment.rewards[kept]
        self.terminated[rows[:-1]] = fragment.terminated[kept]
        self.real[rows[:-1]] = fragment.real[kept]
        self.real[rows[-1]] = False
        self.transitions += int(np.count_nonzero(self.real[rows]))

    def is_transition(self, cells: NDArray[np.intp]) -> NDArray[np.bool_]:
        return self.real.reshape(-1)[cells]

    def transitions_at(self, cells: NDArray[np.intp]) -> Transitions:
        following = (cells + self.envs) % self.real.size
        observations = self.observations.reshape(-1, self.observations.shape[-1])
        return Transitions(
            observations=observations.take(cells, axis=0),
            actions=self.actions.reshape(-1, self.actions.shape[-1]).take(cells, axis=0),
            rewards=self.rewards.reshape(-1).take(cells),
            next_observations=observations.take(following, axis=0),
            terminated=self.terminated.reshape(-1).take(cells),
        )


def _gather(rings: list[_Ring], which: NDArray[np.intp], cells: NDArray[np.intp]) -> Transitions:
    """Transitions of several rings, in the order in which they were drawn."""
    parts = [ring.transitions_at(cells[which == number]) for number, ring in enumerate(rings)]
    order = np.argsort(np.argsort(which, kind="stable"), kind="stable")
    joined = {
        name: np.concatenate([getattr(part, name) for part in parts]).take(order, axis=0)
        for name in Transitions.__dataclass_fields__
    }
    return Transitions(**joined)


def _locate(
    path: Any, filesystem: pyarrow.fs.FileSystem | None
) -> tuple[pyarrow.fs.FileSystem, PurePosixPath]:
    text = path if isinstance(path, str) else path.as_posix()
    if filesystem is None:
        filesystem, text = pyarrow.fs.FileSystem.from_uri(text)
    return filesystem, PurePosixPath(text)


def _array_file(runner: int, column: str) -> str:
    return f"runner_{runner}_{column}.npy"


def _read_into(rows: NDArray[Any], file: Any, name: str) -> None:
    """Fill contiguous rows from a .npy file without a second copy in memory."""
    np.lib.format.read_magic(file)
    shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
    if shape != rows.shape or dtype != rows.dtype or fortran_order:
        raise ValueError(f"{name}: {dtype} of shape {shape}, expected {rows.dtype} of shape {rows.shape}")
    bytes_left = rows.reshape(-1).view(np.uint8).data
    while len(bytes_left):
        count = file.readinto(bytes_left)
        if not count:
            raise ValueError(f"{name}: {len(bytes_left)} bytes are missing at its end")
        bytes_left = bytes_left[count:]
