"""What an interceptor does for every call, and what it does once."""

from typing import Any, NamedTuple, cast

import grpc

from memory3.rpc.guard import CallGuard
from memory3.rpc.interceptors import AioInterceptor, ThreadInterceptor
from memory3.rpc.unguarded import Probes


class _Details(NamedTuple):
    method: str


HANDLERS: dict[str, Any] = {
    name: grpc.unary_unary_rpc_method_handler(lambda request, context: request)
    for name in ("/service/One", "/service/Other")
}
GUARD = cast(CallGuard, None)  # asked when a call comes, and none does


def test_a_method_of_a_thread_pool_server_is_wrapped_once() -> None:
    """And again only if its handler is another; a method that is none has no handler."""
    interceptor = ThreadInterceptor(GUARD, Probes())

    def handler(method: str, handlers: dict[str, Any] = HANDLERS) -> Any:
        return interceptor.intercept_service(lambda _: handlers.get(method), _Details(method))

    one, other = (handler(method) for method in HANDLERS)
    assert one is not other
    assert [handler(method) for method in HANDLERS] == [one, other]
    assert handler("/service/One", {"/service/One": HANDLERS["/service/Other"]}) is not one
    assert handler("/service/None") is None


async def test_a_method_of_an_aio_server_is_wrapped_once() -> None:
    """As for the other kind."""
    interceptor = AioInterceptor(GUARD)

    async def handler(method: str) -> Any:
        async def continuation(_: Any) -> Any:
            return HANDLERS.get(method)

        return await interceptor.intercept_service(continuation, _Details(method))

    one, other = [await handler(method) for method in HANDLERS]
    assert one is not other
    assert [await handler(method) for method in HANDLERS] == [one, other]
    assert await handler("/service/None") is None
