"""Codes whose encoder and decoder are matrices."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from approxifer_torchserve.codes.base import Code
from approxifer_torchserve.codes.pytree import check_mask

_CACHED_PATTERNS = 1024
"""Bound on cached operators over all codes; nine workers with one lost make ten."""


@dataclass(frozen=True)
class _Operator:
    """A matrix, ready for tensors of one dtype and device.

    Attributes:
        matrix: ``[rows, len(columns)]``.
        columns: int64, the columns that are read; None for all.
        exact_rows: int64, rows that only copy.
        exact_columns: int64, the columns that those rows copy.
        copies_all: Whether every row only copies.
    """

    matrix: Tensor
    columns: Tensor | None
    exact_rows: Tensor
    exact_columns: Tensor
    copies_all: bool

    def __call__(self, values: Tensor) -> Tensor:
        """Maps ``[batch, all columns, features]`` to ``[batch, rows, features]``."""
        if self.copies_all:
            return values.index_select(1, self.exact_columns)
        # Unread columns are dropped, not weighted by 0: 0 * NaN is NaN.
        read = values if self.columns is None else values.index_select(1, self.columns)
        # Autocast would round a float32 product to bfloat16 and so lose the dtype.
        with torch.autocast(device_type=values.device.type, enabled=False):
            product = torch.matmul(self.matrix, read.to(self.matrix.dtype)).to(values.dtype)
        if len(self.exact_rows) == 0:
            return product
        # Copied, so that they are exact in TF32 too and beside another answer's Inf.
        return product.index_copy(1, self.exact_rows, values.index_select(1, self.exact_columns))


def _operator(
    matrix: Tensor, columns: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> _Operator:
    # A tensor made inside inference_mode could never be used in training again.
    with torch.inference_mode(False), torch.no_grad():
        copies = (matrix == 1.0).any(dim=1) & ((matrix != 0.0).sum(dim=1) == 1)
        rows = copies.nonzero().flatten()
        exact = matrix[rows].argmax(dim=1)
        all_read = len(columns) == matrix.shape[1]
        chosen = torch.tensor(columns, dtype=torch.int64, device="cpu")
        return _Operator(
            matrix=matrix[:, chosen].to(device=device, dtype=dtype),
            columns=None if all_read else chosen.to(device),
            exact_rows=rows.to(device),
            exact_columns=exact.to(device),
            copies_all=len(rows) == len(matrix),
        )


@lru_cache(maxsize=64)
def _encoder(code: LinearCode, dtype: torch.dtype, device: torch.device) -> _Operator:
    return _operator(code.encoding_matrix(), tuple(range(code.queries)), dtype, device)


@lru_cache(maxsize=_CACHED_PATTERNS)
def _decoder(
    code: LinearCode, pattern: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> _Operator:
    with torch.inference_mode(False), torch.no_grad():
        available = torch.zeros(code.num_workers, dtype=torch.bool, device="cpu")
        available[list(pattern)] = True
        matrix = code._decoding_matrix(available)
    return _operator(matrix, pattern, dtype, device)


def _compute_dtype(argument: str, dtype: torch.dtype) -> torch.dtype:
    if not dtype.is_floating_point:
        raise TypeError(
            f"{argument} must be floating point to be combined linearly, got {dtype}; use a code "
            f"that only copies, name='replication' or name='uncoded'"
        )
    return torch.float64 if dtype == torch.float64 else torch.float32


@dataclass(frozen=True)
class LinearCode(Code):
    """A code given by matrices G ``[N+1, K]`` and D(available) ``[K, N+1]``.

    Both are built in float64, cached for each pattern of answers in a bounded LRU, and applied to
    each leaf as one matrix product: in float64 for float64, in float32 for everything smaller,
    rounded once to the dtype that came. Rows that have a single weight, 1, copy and do not compute.
    """

    def encoding_matrix(self) -> Tensor:
        """Computes G.

        Returns:
            float64 ``[N+1, K]`` on the CPU, the caller's own.
        """
        with torch.inference_mode(False), torch.no_grad():
            return self._encoding_matrix()

    def decoding_matrix(self, available: Tensor) -> Tensor:
        """Computes D for one pattern of answers.

        Args:
            available: bool ``[N+1]``, true where an answer came.

        Returns:
            float64 ``[K, N+1]`` on the CPU, the caller's own; columns of answers that did not come
            are 0.

        Raises:
            NotRecoverableError: Some query cannot be recovered from these answers.
            TypeError: ``available`` is not a bool tensor.
            ValueError: It is not of shape ``[N+1]``.
        """
        mask = check_mask("available", available, self.num_workers)
        if mask.dim() != 1:
            raise ValueError(
                f"available must have shape {(self.num_workers,)}, got {tuple(mask.shape)}"
            )
        self._require(mask.nonzero().flatten().tolist(), None)
        with torch.inference_mode(False), torch.no_grad():
            return self._decoding_matrix(mask)

    @abstractmethod
    def _encoding_matrix(self) -> Tensor:
        """Computes G, float64 ``[N+1, K]``, a new tensor."""

    @abstractmethod
    def _decoding_matrix(self, available: Tensor) -> Tensor:
        """Computes D, float64 ``[K, N+1]``, a new tensor; ``available`` recovers every query."""

    def _encode(self, queries: Tensor) -> Tensor:
        dtype = _compute_dtype("queries", queries.dtype)
        return _encoder(self, dtype, queries.device)(queries)

    def _decode(self, predictions: Tensor, pattern: tuple[int, ...]) -> Tensor:
        dtype = _compute_dtype("predictions", predictions.dtype)
        return _decoder(self, pattern, dtype, predictions.device)(predictions)
