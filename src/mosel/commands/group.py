"""A group's process: `python -m mosel.commands.group FILE`, from `groups.py`.

It is a server as it would be alone, on a socket of this machine, that front doors hand calls to.
"""

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from mosel.commands.serving import device_of, engine_config_of, engine_of, served_models, service_of, traces_of
from mosel.core.files import allow_open_files
from mosel.frontend import logs
from mosel.frontend.doors.grpc_member import GrpcMember
from mosel.frontend.doors.kin import READY, as_kin, say_ready
from mosel.frontend.doors.loads import DOWN, LoadReports
from mosel.frontend.doors.member import SecondLook
from mosel.frontend.doors.shelf import SharedShelf
from mosel.frontend.doors.starts import Places, read_group
from mosel.frontend.grpc_calls import ServiceAnswers
from mosel.frontend.http import HttpApp
from mosel.frontend.keys import read_keys
from mosel.frontend.server import Door, listen_here, run
from mosel.online.autoscaling import AskTogether
from mosel.online.group import Load
from mosel.online.serving import member_of


def main(arguments: Sequence[str]) -> None:
    """Serve until a signal has ended it.

    Raises:
        As `serve_configured`.
    """
    path = Path(arguments[0])
    start, places = read_group(path), Places(path.parent)
    config, index = start.config, start.index
    traces = traces_of(config)
    allow_open_files()
    with ExitStack() as stack:
        stack.enter_context(logs.logging_to_stderr(config.log_format, config.log_level))
        listening = stack.enter_context(listen_here(places.calls(index)))
        engine_config = engine_config_of(config, device_of(config), start.first, start.on_machine)
        served = served_models(config, engine_config.device, lambda _: None)
        member = member_of(served, engine_config, index, start.groups)
        together = partial(AskTogether, places.wishes, index)
        engine = stack.enter_context(engine_of(config, served, engine_config, member, together))
        shelf = stack.enter_context(SharedShelf(places.quotas))
        service = service_of(config, served, engine, traces, f"g{index}j", shelf)

        def load() -> Load:
            return member.load(engine.now_ns()) if engine.ready else DOWN

        keys = read_keys(Path(config.keys)) if config.keys else None
        look = SecondLook(load, engine.now_ns)
        answers = ServiceAnswers(service, keys)
        app = GrpcMember(HttpApp(service, keys, look), answers, service.bodies, look)
        reports = LoadReports(str(places.loads(index)), load)
        try:
            run(app, engine, listening, config.drain_s, say_ready, READY, Door(config.connections), reports)
        finally:
            service.close()


if __name__ == "__main__":
    as_kin(main, sys.argv[1:])
