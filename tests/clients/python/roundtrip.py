"""Creates a topic, produces plain records and consumes them, with nothing but grpcio and the .proto files.

    pip install -r requirements.txt
    python roundtrip.py PROTO_DIR HOST:PORT

It shows all that a program in any language needs: find the partition's leader (Admin.Metadata), ask it, and ask again
where an answer says that a retry helps.
"""

import sys
import tempfile
import time
from pathlib import Path

import grpc
from grpc_tools import protoc

# Error codes whose request may succeed when it is sent again, perhaps to another broker.
RETRIABLE = {3, 5, 6, 7, 19, 74, 75, 78}
DEADLINE_S = 30


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


def main() -> None:
    proto_dir, bootstrap = Path(sys.argv[1]), sys.argv[2]
    generate(proto_dir)
    from tidelog.v1 import admin_pb2, common_pb2, log_pb2

    cluster = Cluster(bootstrap)
    topic, partitions = f"python-{time.time_ns()}", 2
    created = cluster.admin().CreateTopic(
        admin_pb2.CreateTopicRequest(name=topic, partitions=partitions), timeout=DEADLINE_S
    )
    assert created.error.code == 0, created.error

    sent = {partition: [f"value {i} of {partition}".encode() for i in range(100)] for partition in range(partitions)}
    for partition, values in sent.items():
        records = [
            common_pb2.Record(key=b"k", value=value, headers=[common_pb2.Header(key="row", value=b"%d" % i)])
            for i, value in enumerate(values)
        ]
        records.append(common_pb2.Record(key=b"a tombstone"))
        request = log_pb2.ProduceRequest(
            partitions=[
                log_pb2.PartitionProduce(
                    topic=topic, partition=partition, records=log_pb2.PlainRecords(records=records)
                )
            ]
        )

        def produce():
            log = cluster.leader_log(topic, partition)
            return log.Produce(request, timeout=DEADLINE_S).partitions[0] if log else None

        produced = until_accepted(produce)
        assert produced.base_offset == 0, produced

    for partition, values in sent.items():
        read, offset = [], 0
        while len(read) < len(values) + 1:
            request = log_pb2.FetchRequest(
                max_wait_ms=1000,
                min_bytes=1,
                plain_records=True,
                partitions=[log_pb2.PartitionFetch(topic=topic, partition=partition, fetch_offset=offset)],
            )

            def fetch():
                log = cluster.leader_log(topic, partition)
                return log.Fetch(request, timeout=DEADLINE_S).partitions[0] if log else None

            fetched = until_accepted(fetch)
            read.extend(fetched.records)
            offset = fetched.next_offset
        assert [record.value for record in read[:-1]] == values
        assert [record.offset for record in read] == list(range(len(values) + 1))
        assert read[7].headers[0].key == "row" and read[7].headers[0].value == b"7"
        assert not read[-1].HasField("value"), "a null value came back as something else"

    wrong = cluster.admin().CreateTopic(admin_pb2.CreateTopicRequest(name="no/such name"), timeout=DEADLINE_S)
    assert wrong.error.code == 17 and "topic name" in wrong.error.message, wrong

    deleted = cluster.admin().DeleteTopic(admin_pb2.DeleteTopicRequest(name=topic), timeout=DEADLINE_S)
    assert deleted.error.code == 0, deleted.error
    print(f"{sum(len(values) + 1 for values in sent.values())} plain records produced and read back")


if __name__ == "__main__":
    main()
