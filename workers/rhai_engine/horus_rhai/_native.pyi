from collections.abc import Callable, Mapping
from typing import Self

from horus_rhai.function import Function

RHAI_VERSION: str
__version__: str

# Has the byte `m` written there before this process ends for lack of memory.
def tell_of_no_memory(descriptor: int) -> None: ...

class CancelToken:
    def __new__(cls) -> Self: ...
    def cancel(self) -> None: ...
    @property
    def cancelled(self) -> bool: ...

class Script: ...

class Engine:
    def __new__(
        cls,
        functions: Mapping[str, Function | Callable[..., object]],
        *,
        names: Mapping[str, object] | None = None,
        max_operations: int = 0,
        max_call_levels: int = 64,
        max_expression_depth: int = 64,
        max_function_expression_depth: int = 32,
        max_variables: int = 10_000,
        max_functions: int = 1_000,
        max_string_size: int = 1_048_576,
        max_array_size: int = 50_000,
        max_map_size: int = 50_000,
    ) -> Self: ...
    def compile(self, source: str) -> Script: ...
    def run(
        self,
        script: Script,
        variables: Mapping[str, object] | None = None,
        *,
        print: Callable[[str], object] | None = None,  # noqa: A002 - its name in Rhai
        debug: Callable[[str, int | None, int | None], object] | None = None,
        timeout: float | None = None,
        cancel: CancelToken | None = None,
    ) -> object: ...
