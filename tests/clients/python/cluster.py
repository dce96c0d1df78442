"""What every program needs that has nothing but grpcio and the .proto files: whom to ask, and when to ask again."""

import argparse
import sys
import tempfile
import time
from pathlib import Path

try:
    import grpc
    from grpc_tools import protoc
except ImportError as missing:
    raise SystemExit(f"{missing}: pip install -r {Path(__file__).parent / 'requirements.txt'}") from None

# Error codes whose request may succeed when it is sent again, perhaps to another broker.
RETRIABLE = {3, 5, 6, 7, 14, 15, 16, 19, 74, 75, 78, 113}
DEADLINE_S = 30


def arguments(description: str) -> argparse.Namespace:
    """The command line of each program: where the .proto files are, and a broker to begin with."""
    parser = argparse.ArgumentParser(
        description=description.strip().splitlines()[0],
        epilog="example: %(prog)s ../../../proto 127.0.0.1:7171",
    )
    parser.add_argument("proto_dir", type=Path, help="the folder `proto` of the repository")
    parser.add_argument("bootstrap", metavar="HOST:PORT", help="a broker's client listener")
    words = parser.parse_args()
    if not (words.proto_dir / "tidelog" / "v1" / "log.proto").is_file():
        parser.error(f"no tidelog/v1/log.proto in {words.proto_dir}: name the folder `proto` of the repository")
    return words


def generate(proto_dir: Path) -> None:
    """Makes Python modules of the public API, and puts them on the path."""
    out = tempfile.mkdtemp(prefix="tidelog-python-")
    files = sorted(str(path) for path in (proto_dir / "tidelog" / "v1").glob("*.proto"))
    arguments = ["protoc", f"-I{proto_dir}", f"--python_out={out}", f"--grpc_python_out={out}", *files]
    if protoc.main(arguments) != 0:
        raise SystemExit("the .proto files do not compile")
    sys.path.insert(0, out)


class Cluster:
    """Channels to brokers, and who leads what."""

    def __init__(self, bootstrap: str):
        self.bootstrap = bootstrap
        self.channels = {}

    def channel(self, address: str) -> grpc.Channel:
        if address not in self.channels:
            self.channels[address] = grpc.insecure_channel(address)
        return self.channels[address]

    def admin(self):
        from tidelog.v1 import admin_pb2_grpc

        return admin_pb2_grpc.AdminStub(self.channel(self.bootstrap))

    def leader_log(self, topic: str, partition: int):
        """The Log service of a partition's leader."""
        from tidelog.v1 import admin_pb2, log_pb2_grpc

        metadata = self.admin().Metadata(admin_pb2.MetadataRequest(topics=[topic]), timeout=DEADLINE_S)
        addresses = {broker.broker_id: broker.address for broker in metadata.brokers}
        leader = metadata.topics[0].partitions[partition].leader
        return log_pb2_grpc.LogStub(self.channel(addresses[leader])) if leader else None


def until_accepted(call):
    """Calls until the answer carries no retriable error."""
    end = time.monotonic() + DEADLINE_S
    while True:
        answer = call()
        if answer is not None and answer.error.code == 0:
            return answer
        if answer is not None and answer.error.code not in RETRIABLE or time.monotonic() > end:
            raise SystemExit(f"refused: {answer.error if answer is not None else 'no leader'}")
        time.sleep(0.1)
