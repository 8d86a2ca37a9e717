"""Versions and configuration of the servers as they say it themselves, without any secret: ``servers.json``."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import msgspec

from resilience.backend.base import MemberState, Platform
from resilience.backend.settings import redis_settings
from resilience.errors import StackError
from resilience.spec.rabbitmq import VHOST
from resilience.stack import patroni
from resilience.stack.http_link import http_ask
from resilience.stack.postgresql_link import PASSWORD, SUPERUSER, PostgresqlLink, PostgresqlLinks, Rows
from resilience.stack.rabbitmq import PASSWORD as RABBITMQ_PASSWORD
from resilience.stack.rabbitmq import ask
from resilience.stack.redis_link import Answers, RedisLinks
from resilience.stack.redis_survey import fields_from_info
from resilience.stack.service import service_states
from resilience.stack.wait import wait_until

SECRET_MARKS = ("pass", "auth")  # a directive whose name holds one of these is left out
REDIS_FACTS = ("redis_version", "redis_build_id", "run_id", "os", "arch_bits", "multiplexing_api")
POSTGRESQL_SETTINGS = "SELECT name, setting FROM pg_settings WHERE source <> 'default' OR name = 'server_version'"
PROMETHEUS_STATUS = ("buildinfo", "flags", "config")
RABBITMQ_FACTS = ("net_ticktime", "mem_limit", "disk_free_limit", "fd_total", "enabled_plugins", "rates_mode")
TOLD_WITHIN_S = 10.0
OK = 200

Description = dict[str, Any]


def servers(platform: Platform) -> dict[str, Description]:
    """What each server says of itself, by member: ``version``, ``config`` and more; ``error`` if it cannot be asked.

    Members without a version of their own to ask for (exporters, load generators) are left out.
    """
    described = redis_servers(platform)
    if platform.stack.postgresql is not None:
        described |= postgresql_servers(platform)
    for state in service_states(platform):
        described[state.name] = _described(service, state)
    for state in platform.states():
        if state.component == "prometheus":
            described[state.name] = _described(prometheus, state)
        elif state.component == "rabbitmq":
            described[state.name] = _described(partial(rabbitmq, password=platform.secret(RABBITMQ_PASSWORD)), state)
    return described


def redis_servers(platform: Platform) -> dict[str, Description]:
    """The Redis members' versions and directives, as read back, and which of them are not as the stack has them."""
    asked = redis_settings(platform.stack)
    with RedisLinks(platform) as links:
        answers = links.ask_each(("INFO", "server"), ("CONFIG", "GET", "*"))
    secret = platform.secret("redis-password")
    return {name: _redis(answer, secret, asked) for name, answer in answers.items()}


def postgresql_servers(platform: Platform) -> dict[str, Description]:
    """The PostgreSQL members' versions and settings that are not the defaults, and their PgBouncers' settings."""
    secret = platform.secret(PASSWORD)
    with PostgresqlLinks(platform) as links:
        answers = links.ask_each(POSTGRESQL_SETTINGS)
    described = {name: _postgresql(answer, secret) for name, answer in answers.items()}
    if platform.stack.patroni is not None:
        for name, config in patroni.config(platform).items():
            described[name]["patroni"] = _patroni(platform.state(name)) | {"config": msgspec.to_builtins(config)}
    for state in platform.states():
        if state.component == "etcd":
            described[state.name] = _described(etcd, state)
        elif state.component == "pgbouncer":
            described[state.name] = _described(lambda one: pgbouncer(one, secret), state)
    return described


def _postgresql(answer: Rows | StackError, secret: str) -> Description:
    if isinstance(answer, StackError):
        return {"component": "postgresql", "error": str(answer)}
    config = {str(row[0]): row[1] or "" for row in answer}
    version = config.get("server_version", "")
    return {"component": "postgresql", "version": version, "config": without_secrets(config, secret)}


def pgbouncer(state: MemberState, secret: str) -> Description:
    """The version and the settings of a PgBouncer. Raises `StackError`."""
    link = PostgresqlLink(
        state.name, state.address, secret, 1.0, component="pgbouncer", user=SUPERUSER, database="pgbouncer"
    )
    try:
        ((version,),) = link.ask("SHOW VERSION")
        config = {str(row[0]): row[1] or "" for row in link.ask("SHOW CONFIG")}
    finally:
        link.close()
    return {"component": state.component, "version": version, "config": without_secrets(config, secret)}


def _patroni(state: MemberState) -> Description:
    try:
        return {"version": patroni.version(state)}
    except StackError as error:
        return {"error": str(error)}


def etcd(state: MemberState) -> Description:
    """The version of an etcd member. Raises `StackError`."""
    return {"component": state.component, "version": str(http_ask(state, "/version").json()["etcdserver"])}


def _redis(answers: Answers, secret: str, asked: Mapping[str, str]) -> Description:
    if isinstance(answers, StackError):
        return {"component": "redis", "error": str(answers)}
    info, pairs = answers
    fields = fields_from_info(info)
    config = without_secrets(dict(zip(pairs[::2], pairs[1::2], strict=True)), secret)
    return {
        "component": "redis",
        "version": fields.get("redis_version", ""),
        "facts": {name: fields[name] for name in REDIS_FACTS if name in fields},
        "config": config,
        "differs": differing(config, asked),
    }


def differing(config: Mapping[str, str], asked: Mapping[str, str]) -> dict[str, str]:
    """What of a server's directives is not as it was asked for, in words: so does a backend from the stack file."""
    return {
        name: f"{config.get(name, 'not told') or 'nothing'} instead of {value or 'nothing'}"
        for name, value in asked.items()
        if config.get(name) != value
    }


def without_secrets(config: Mapping[str, str], secret: str) -> dict[str, str]:
    """Directives in alphabetical order, without those that are named like a secret or hold it."""
    return {
        name: value
        for name, value in sorted(config.items())
        if not any(mark in name for mark in SECRET_MARKS) and not (secret and secret in value)
    }


def service(state: MemberState) -> Description:
    """What a service's ``/healthz`` says. Raises `StackError`."""
    answer = http_ask(state, "/healthz")
    if answer.status != OK:
        raise StackError(str(answer))
    body = answer.json()
    return {"component": state.component, "version": body.get("version", "") if isinstance(body, dict) else ""}


def prometheus(state: MemberState) -> Description:
    """The build, flags and configuration of a Prometheus. Raises `StackError`."""
    status = {}
    for name in PROMETHEUS_STATUS:
        answer = http_ask(state, f"/api/v1/status/{name}")
        if answer.status != OK:
            raise StackError(str(answer))
        status[name] = answer.json()["data"]
    return {
        "component": "prometheus",
        "version": status["buildinfo"]["version"],
        "facts": status["buildinfo"],
        "flags": status["flags"],
        "config": status["config"]["yaml"],
    }


def rabbitmq(state: MemberState, password: str) -> Description:
    """A RabbitMQ member's versions, the settings that it tells of, and its policies. Raises `StackError`.

    Of itself a member tells some seconds after its start.
    """
    overview = ask(state, password, "/api/overview?columns=rabbitmq_version,erlang_version,cluster_name")
    node: dict[str, Any] = {}

    def untold() -> str:
        node.update(ask(state, password, f"/api/nodes/rabbit@{state.name}?columns={','.join(RABBITMQ_FACTS)}"))
        return "" if set(RABBITMQ_FACTS) <= set(node) else "they are not known yet"

    wait_until(f"asking {state.name} for its settings", untold, deadline=time.monotonic() + TOLD_WITHIN_S)
    policies = ask(state, password, f"/api/policies/{VHOST}")
    return {
        "component": "rabbitmq",
        "version": overview["rabbitmq_version"],
        "facts": overview,
        "config": {name: node[name] for name in RABBITMQ_FACTS},
        "policies": {policy["name"]: policy["definition"] for policy in policies},
    }


def _described(describe: Callable[[MemberState], Description], state: MemberState) -> Description:
    try:
        return describe(state)
    except StackError as error:
        return {"component": state.component, "error": str(error)}
