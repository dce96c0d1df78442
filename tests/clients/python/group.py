"""Members of a consumer group, with nothing but grpcio and the .proto files.

    pip install -r requirements.txt
    python group.py PROTO_DIR HOST:PORT

A member is one stream (Groups.Session). It says Join, then a Heartbeat now and then. It is told what it may own; whatever it
owns beyond that it gives up: it ends its work there, commits, and answers with Revoked. Only then the partition goes to
somebody else. A stream that breaks is opened again with the member's id, its epoch and everything it owns.
"""

import queue
import threading
import time

from cluster import DEADLINE_S, Cluster, arguments, generate, until_accepted

UNKNOWN_MEMBER_ID = 25
NON_EMPTY_GROUP = 68
PARTITIONS = 4
RECORDS = 50


class Member:
    """One member: what it owns, and how far it has read."""

    def __init__(self, cluster: Cluster, group: str, topic: str):
        self.cluster, self.group, self.topic = cluster, group, topic
        self.member_id, self.epoch = "", 0
        self.owned, self.topic_id = {}, b""
        self.told = threading.Condition()
        self.read = []
        self.open()

    def open(self) -> None:
        """Joins, or resumes with everything that is owned."""
        from tidelog.v1 import groups_pb2

        self.say = queue.Queue()
        join = groups_pb2.Join(
            group_id=self.group,
            member_id=self.member_id,
            member_epoch=self.epoch,
            subscription=groups_pb2.Subscribe(topics=[self.topic]),
            owned=self.owned_partitions(),
            client_id="python",
        )
        self.say.put(groups_pb2.SessionRequest(join=join))
        self.stream = self.groups().Session(iter(self.say.get, None))
        joined = next(self.stream)
        assert joined.HasField("joined"), joined
        self.member_id, self.epoch = joined.joined.member_id, joined.joined.member_epoch
        self.heartbeat_s = joined.joined.heartbeat_interval_ms / 1000
        threading.Thread(target=self.listen, args=[self.stream], daemon=True).start()
        threading.Thread(target=self.beat, args=[self.say], daemon=True).start()

    def groups(self):
        """The Groups service of the group's coordinator."""
        from tidelog.v1 import groups_pb2, groups_pb2_grpc

        def find():
            stub = groups_pb2_grpc.GroupsStub(self.cluster.channel(self.cluster.bootstrap))
            request = groups_pb2.FindCoordinatorRequest(group_ids=[self.group])
            return stub.FindCoordinator(request, timeout=DEADLINE_S).coordinators[0]

        return groups_pb2_grpc.GroupsStub(self.cluster.channel(until_accepted(find).coordinator.address))

    def listen(self, stream) -> None:
        """Follows what the coordinator tells, to the stream's end."""
        import grpc
        from tidelog.v1 import groups_pb2

        try:
            for event in stream:
                if event.HasField("assignment"):
                    self.reconcile(event.assignment)
                elif event.HasField("heartbeat"):
                    self.epoch = max(self.epoch, event.heartbeat.member_epoch)
                elif event.HasField("ended"):
                    raise SystemExit(f"the coordinator ended the session: {event.ended}")
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.CANCELLED:
                raise

    def beat(self, say: queue.Queue) -> None:
        """Heartbeats, for as long as this stream is the member's."""
        from tidelog.v1 import groups_pb2

        while say is self.say:
            time.sleep(self.heartbeat_s)
            say.put(groups_pb2.SessionRequest(heartbeat=groups_pb2.Heartbeat(member_epoch=self.epoch)))

    def reconcile(self, assignment) -> None:
        """First gives up what is not its own any more, then takes on what is new."""
        from tidelog.v1 import groups_pb2

        with self.told:
            self.epoch = assignment.member_epoch
            wanted = {p for topic in assignment.partitions for p in topic.partitions}
            for topic in assignment.partitions:
                self.topic_id = topic.topic_id
            leaving = set(self.owned) - wanted
            if leaving:
                self.commit(leaving)
                for partition in leaving:
                    del self.owned[partition]
                revoked = groups_pb2.Revoked(
                    member_epoch=self.epoch,
                    assignment_version=assignment.version,
                    owned=self.owned_partitions(),
                )
                self.say.put(groups_pb2.SessionRequest(revoked=revoked))
            for partition in wanted - set(self.owned):
                self.owned[partition] = self.committed().get(partition, 0)
            self.told.notify_all()

    def owned_partitions(self):
        from tidelog.v1 import groups_pb2

        if not self.owned:
            return []
        return [
            groups_pb2.TopicPartitions(topic=self.topic, topic_id=self.topic_id, partitions=sorted(self.owned))
        ]

    def owns(self, count: int) -> None:
        """Waits until it owns so many partitions."""
        with self.told:
            settled = self.told.wait_for(lambda: len(self.owned) == count, timeout=DEADLINE_S)
            assert settled, f"owns {sorted(self.owned)} and not {count} partitions"

    def consume(self, most: int) -> None:
        """Reads at most so many records of each partition it owns. Holds off reconciling meanwhile."""
        from tidelog.v1 import log_pb2

        with self.told:
            for partition, offset in self.owned.items():
                request = log_pb2.FetchRequest(
                    max_wait_ms=100,
                    plain_records=True,
                    partitions=[
                        log_pb2.PartitionFetch(
                            topic=self.topic, topic_id=self.topic_id, partition=partition, fetch_offset=offset
                        )
                    ],
                )

                def fetch():
                    log = self.cluster.leader_log(self.topic, partition)
                    return log.Fetch(request, timeout=DEADLINE_S).partitions[0] if log else None

                for record in until_accepted(fetch).records[:most]:
                    self.read.append((partition, record.offset))
                    self.owned[partition] = record.offset + 1

    def commit(self, partitions) -> None:
        """Commits how far it has read. A commit that a new epoch overtook is sent again with that."""
        until_accepted(lambda: self.send_commit({p: self.owned[p] for p in partitions}, self.epoch))

    def send_commit(self, offsets, epoch):
        from tidelog.v1 import groups_pb2

        request = groups_pb2.CommitRequest(
            group_id=self.group,
            member_id=self.member_id,
            member_epoch=epoch,
            offsets=[
                groups_pb2.OffsetToCommit(
                    topic=self.topic, topic_id=self.topic_id, partition=partition, offset=offset
                )
                for partition, offset in offsets.items()
            ],
        )
        answer = self.groups().Commit(request, timeout=DEADLINE_S)
        assert not answer.failures, answer
        return answer

    def committed(self):
        from tidelog.v1 import groups_pb2

        request = groups_pb2.OffsetsRequest(group_id=self.group)
        answer = until_accepted(lambda: self.groups().Offsets(request, timeout=DEADLINE_S))
        return {offset.partition: offset.offset for offset in answer.offsets}

    def break_stream(self) -> None:
        """What a network does, and what a member does about it."""
        self.stream.cancel()
        self.open()

    def leave(self) -> None:
        from tidelog.v1 import groups_pb2

        with self.told:
            self.commit(self.owned)
            self.owned = {}
        self.say.put(groups_pb2.SessionRequest(leave=groups_pb2.Leave()))


def produce(cluster: Cluster, topic: str) -> None:
    from tidelog.v1 import common_pb2, log_pb2

    for partition in range(PARTITIONS):
        records = [common_pb2.Record(value=b"%d" % i) for i in range(RECORDS)]
        plain = log_pb2.PlainRecords(records=records)
        request = log_pb2.ProduceRequest(
            partitions=[log_pb2.PartitionProduce(topic=topic, partition=partition, records=plain)]
        )

        def send():
            log = cluster.leader_log(topic, partition)
            return log.Produce(request, timeout=DEADLINE_S).partitions[0] if log else None

        until_accepted(send)


def remove(member: Member, group: str) -> None:
    """Deletes the group, which has members until the last Leave is heard."""
    from tidelog.v1 import groups_pb2

    def delete():
        answer = member.groups().Delete(groups_pb2.DeleteGroupRequest(group_id=group), timeout=DEADLINE_S)
        return answer if answer.error.code != NON_EMPTY_GROUP else None

    until_accepted(delete)


def main() -> None:
    words = arguments(__doc__)
    generate(words.proto_dir)
    from tidelog.v1 import admin_pb2

    cluster = Cluster(words.bootstrap)
    topic = f"python-group-{time.time_ns()}"
    group = f"readers-of-{topic}"
    create = admin_pb2.CreateTopicRequest(name=topic, partitions=PARTITIONS)
    assert cluster.admin().CreateTopic(create, timeout=DEADLINE_S).error.code == 0
    produce(cluster, topic)

    first = Member(cluster, group, topic)
    first.owns(PARTITIONS)
    first.consume(20)

    second = Member(cluster, group, topic)
    first.owns(PARTITIONS // 2)
    second.owns(PARTITIONS // 2)
    assert not set(first.owned) & set(second.owned), "a partition with two owners"

    epoch = first.epoch
    first.break_stream()
    first.owns(PARTITIONS // 2)
    assert first.epoch == epoch, "a resumed stream is no rebalance"

    first.consume(RECORDS)
    first.leave()
    second.owns(PARTITIONS)
    second.consume(RECORDS)
    second.commit(second.owned)

    read = first.read + second.read
    expected = [(partition, offset) for partition in range(PARTITIONS) for offset in range(RECORDS)]
    assert sorted(read) == expected, "every record once: whatever was read was committed before it moved"
    assert second.committed() == {partition: RECORDS for partition in range(PARTITIONS)}

    late = first.send_commit({0: 1}, first.epoch)
    assert late.error.code == UNKNOWN_MEMBER_ID, late
    second.leave()
    remove(second, group)
    assert cluster.admin().DeleteTopic(admin_pb2.DeleteTopicRequest(name=topic), timeout=DEADLINE_S).error.code == 0
    print(f"{len(read)} records read by a group of two, each once")


if __name__ == "__main__":
    main()
