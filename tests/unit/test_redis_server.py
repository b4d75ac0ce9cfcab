"""The Redis server of the tests is real and can be taken away."""

import pytest
import redis

from tests.redis_server import RedisServer


@pytest.mark.redis
def test_the_server_keeps_what_it_is_given_until_killed(own_redis_server: RedisServer) -> None:
    """Values are kept, forgotten on flush, unreachable after a kill, and gone after a restart."""
    with redis.Redis.from_url(own_redis_server.url) as client:
        client.set("key", b"value")
        assert client.get("key") == b"value"
    assert own_redis_server.num_keys() == 1
    own_redis_server.flush()
    assert own_redis_server.num_keys() == 0
    own_redis_server.kill()
    with redis.Redis.from_url(own_redis_server.url) as client, pytest.raises(redis.RedisError):
        client.ping()
    own_redis_server.start()
    assert own_redis_server.num_keys() == 0


@pytest.mark.redis
def test_the_shared_server_is_handed_over_empty(redis_server: RedisServer) -> None:
    """Each test finds nothing of the one before."""
    assert redis_server.num_keys() == 0
