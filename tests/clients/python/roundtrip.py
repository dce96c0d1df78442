"""Creates a topic, produces plain records and consumes them, with nothing but grpcio and the .proto files.

    pip install -r requirements.txt
    python roundtrip.py PROTO_DIR HOST:PORT

It shows all that a program in any language needs: find the partition's leader (Admin.Metadata), ask it, and ask again
where an answer says that a retry helps.
"""

import time

from cluster import DEADLINE_S, Cluster, arguments, generate, until_accepted


def main() -> None:
    words = arguments(__doc__)
    generate(words.proto_dir)
    from tidelog.v1 import admin_pb2, common_pb2, log_pb2

    cluster = Cluster(words.bootstrap)
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
