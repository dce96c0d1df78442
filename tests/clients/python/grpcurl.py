"""Runs the grpcurl commands of docs/grpc.md where grpcurl itself is not installed.

It understands `-plaintext [-d JSON] HOST:PORT (list | SERVICE/METHOD)`, learns everything by the broker's reflection as
grpcurl does, and fails where an answer carries an error.
"""

import argparse

import grpc
from google.protobuf import json_format
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

DEADLINE_S = 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-plaintext", action="store_true", required=True)
    parser.add_argument("-d", default="{}", metavar="JSON")
    parser.add_argument("address", metavar="HOST:PORT")
    parser.add_argument("what", metavar="list | SERVICE/METHOD")
    words = parser.parse_args()

    channel = grpc.insecure_channel(words.address)
    database = ProtoReflectionDescriptorDatabase(channel)
    if words.what == "list":
        print("\n".join(sorted(database.get_services())))
        return
    service, method = words.what.split("/")
    described = DescriptorPool(database).FindServiceByName(service).methods_by_name[method]
    request = json_format.Parse(words.d, GetMessageClass(described.input_type)())
    call = channel.unary_unary(
        f"/{service}/{method}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=GetMessageClass(described.output_type).FromString,
    )
    answer = json_format.MessageToJson(call(request, timeout=DEADLINE_S))
    print(answer)
    if '"error"' in answer:
        raise SystemExit("the answer carries an error")


if __name__ == "__main__":
    main()
