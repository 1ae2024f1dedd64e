#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A client that knows nothing of gradd: lists the services by reflection, submits a job, follows it to its end.

usage: reflection_client.py ADDRESS JOB.yaml [KEY=VALUE...]
Needs grpcio and grpcio-reflection. Exit code 0: the job succeeded.
"""
import os
import sys

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

SERVICE = "gradd.v1.Gradd"
FINAL = ("SUCCEEDED", "FAILED", "CANCELLED")


class Client:
    def __init__(self, channel, pool):
        self.channel, self.service = channel, pool.FindServiceByName(SERVICE)

    def request(self, method, **fields):
        return GetMessageClass(self.service.FindMethodByName(method).input_type)(**fields)

    def call(self, method, request):
        row = self.service.FindMethodByName(method)
        start = self.channel.unary_stream if row.server_streaming else self.channel.unary_unary
        run = start(
            f"/{SERVICE}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=GetMessageClass(row.output_type).FromString,
        )
        return run(request)


def health(channel, pool):
    service = pool.FindServiceByName("grpc.health.v1.Health").FindMethodByName("Check")
    check = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=GetMessageClass(service.output_type).FromString,
    )
    reply = check(GetMessageClass(service.input_type)(service=SERVICE))
    return reply.DESCRIPTOR.fields_by_name["status"].enum_type.values_by_number[reply.status].name


def main(address, path, overrides):
    with grpc.insecure_channel(address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        pool = DescriptorPool(database)
        services = sorted(database.get_services())
        print("services:", *services)
        print("health:", health(channel, pool))
        client = Client(channel, pool)
        with open(path, encoding="utf-8") as file:
            text = file.read()
        request = client.request("Submit", yaml=text, file_name=path, directory=os.path.dirname(os.path.abspath(path)))
        for override in overrides:
            key, value = override.split("=", 1)
            request.set.add(key=key, value=value)
        job = client.call("Submit", request).id
        print("job:", job)

        states = pool.FindEnumTypeByName("gradd.v1.State").values_by_number
        last = None
        for event in client.call("Watch", client.request("Watch", id=job)):
            last = states[event.state].name
            print(f"event {event.number}: {last} at step {event.step}: {event.reason}")
        shown = client.call("Get", client.request("Get", id=job))
        print(f"state: {states[shown.state].name}, step {shown.step}, parameters_sha256 {shown.parameters_sha256}")
        if last not in FINAL or states[shown.state].name != last:
            print(f"the stream ended with {last}, the job is {states[shown.state].name}", file=sys.stderr)
            return 1
        try:
            client.call("Get", client.request("Get", id="999999"))
        except grpc.RpcError as error:
            print(f"unknown job: {error.code().name}: {error.details()}")
        return 0 if last == "SUCCEEDED" else 1


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
