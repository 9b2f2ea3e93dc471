"""An S3-compatible store for tests: OpenStack Swift with s3api, all four servers in one unprivileged process.

Usage: ``python swift_s3.py ROOT PORT``. Everything lives under ROOT; PORT 0 takes a free one. Once ready it
prints ``listening on http://127.0.0.1:PORT``. Access key ``test:tester``, secret ``testing``.
"""

import eventlet

eventlet.monkey_patch()

import json  # noqa: E402 - eventlet patches the standard library before anything else imports it
import sys  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402

import eventlet.wsgi  # noqa: E402
from swift.common import storage_policy, utils  # noqa: E402
from swift.common.ring import RingBuilder  # noqa: E402
from swift.common.wsgi import SwiftHttpProtocol, loadapp  # noqa: E402

HOST = "127.0.0.1"
DEVICE = "disk"
STORAGE_SERVERS = ("account", "container", "object")
PROXY_FILTERS = (
    "catch_errors",
    "gatekeeper",
    "healthcheck",
    "listing_formats",
    "s3api",
    "tempauth",
    "copy",
    "slo",
    "dlo",
    "versioned_writes",
    "symlink",
)
FILTER_OPTIONS = {
    "s3api": "location = us-east-1",
    "tempauth": "user_test_tester = testing .admin .reseller_admin",
    "versioned_writes": "allow_versioned_writes = true\nallow_object_versioning = true",
}

SWIFT_CONF = """\
[swift-hash]
swift_hash_path_prefix = tests
swift_hash_path_suffix = tests
[storage-policy:0]
name = only
default = yes
"""
SERVER_CONF = """\
[DEFAULT]
swift_dir = {etc}
devices = {devices}
mount_check = false
log_level = ERROR
fallocate_reserve = 0
[pipeline:main]
pipeline = {pipeline}
[app:{name}-server]
use = egg:swift#{name}
{options}
"""
PROXY_OPTIONS = "account_autocreate = true\nnode_timeout = 30\nconn_timeout = 5"
FILTER = "[filter:{name}]\nuse = egg:swift#{name}\n{options}\n"


class Cache:
    """What Swift asks of memcached, in a dictionary of value and expiry."""

    def __init__(self):
        self._entries = {}

    def get(self, key, *_args, **_kwargs):
        value, expires = self._entries.get(key, (None, 0))
        return None if expires and expires <= time.time() else value

    def set(self, key, value, *_args, time=0, **_kwargs):
        # Memcached hands back JSON, never the caller's own object.
        self._entries[key] = (json.loads(json.dumps(value)), _expiry(time))
        return True

    def incr(self, key, delta=1, time=0, **_kwargs):
        count = (self.get(key) or 0) + delta
        self.set(key, count, time=time)
        return count

    def decr(self, key, delta=1, time=0, **_kwargs):
        return self.incr(key, -delta, time)

    def delete(self, key, *_args, **_kwargs):
        self._entries.pop(key, None)

    def set_multi(self, mapping, *_args, time=0, **_kwargs):
        for key, value in mapping.items():
            self.set(key, value, time=time)

    def get_multi(self, keys, *_args, **_kwargs):
        return [self.get(key) for key in keys]


def _expiry(seconds):
    return time.time() + seconds if seconds else 0


class Silent:
    """The access log goes nowhere."""

    def write(self, text):
        pass

    def flush(self):
        pass


def configure(root, storage_ports):
    """Write Swift's configuration and rings under ``root``; return the directory that holds them."""
    etc, devices = root / "etc", root / "srv"
    etc.mkdir(parents=True, exist_ok=True)
    (devices / DEVICE).mkdir(parents=True, exist_ok=True)
    (etc / "swift.conf").write_text(SWIFT_CONF)
    for name, port in storage_ports.items():
        conf = SERVER_CONF.format(etc=etc, devices=devices, name=name, pipeline=f"{name}-server", options="")
        (etc / f"{name}.conf").write_text(conf)
        _ring(port).save(str(etc / f"{name}.ring.gz"))
    pipeline = " ".join([*PROXY_FILTERS, "proxy-server"])
    proxy = SERVER_CONF.format(
        etc=etc, devices=devices, name="proxy", pipeline=pipeline, options=PROXY_OPTIONS
    )
    filters = (FILTER.format(name=name, options=FILTER_OPTIONS.get(name, "")) for name in PROXY_FILTERS)
    (etc / "proxy.conf").write_text(proxy + "".join(filters))
    return etc


def _ring(port):
    builder = RingBuilder(part_power=4, replicas=1, min_part_hours=1)
    address = {"ip": HOST, "port": port, "replication_ip": HOST, "replication_port": port}
    builder.add_dev({"id": 0, "region": 1, "zone": 1, "weight": 1.0, "device": DEVICE, "meta": "", **address})
    builder.rebalance()
    return builder.get_ring()


def load(etc):
    """Read the configuration back: swift looks into /etc/swift unless told otherwise."""
    utils.set_swift_dir(str(etc))
    utils.validate_hash_conf()
    storage_policy.reload_storage_policies()


def serve(listener, app, **options):
    """Answer requests until the process ends."""
    eventlet.wsgi.server(listener, app, log=Silent(), log_output=False, **options)


def main(root, port):
    """Serve S3 on ``port``, with Swift's storage servers on free ports beside it."""
    listeners = {name: eventlet.listen((HOST, 0)) for name in STORAGE_SERVERS}
    etc = configure(root, {name: listener.getsockname()[1] for name, listener in listeners.items()})
    load(etc)
    for name, listener in listeners.items():
        eventlet.spawn(serve, listener, loadapp(str(etc / f"{name}.conf")))

    proxy, cache = loadapp(str(etc / "proxy.conf")), Cache()

    def app(environ, start_response):
        environ["swift.cache"] = cache
        return proxy(environ, start_response)

    front = eventlet.listen((HOST, port))
    print(f"listening on http://{HOST}:{front.getsockname()[1]}", flush=True)
    serve(front, app, protocol=SwiftHttpProtocol, capitalize_response_headers=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), int(sys.argv[2]))
