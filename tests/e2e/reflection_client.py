#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""reflection_client.py ADDRESS JOB.yaml: a client that knows nothing of gradd but its address.

Only grpcio and protobuf's runtime: no generated code, not even that of the reflection service, whose three messages
are declared below. Lists the services with reflection v1 and v1alpha, fetches the descriptors, checks health, submits
the job, follows it with Watch, and fails unless it SUCCEEDED.
"""
import os
import sys

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool

try:
    from google.protobuf.message_factory import GetMessageClass
except ImportError:  # protobuf < 4.22
    from google.protobuf.message_factory import MessageFactory

    def GetMessageClass(descriptor):
        return MessageFactory().GetPrototype(descriptor)


FIELD = descriptor_pb2.FieldDescriptorProto


def reflection_file(package):
    """The part of grpc/reflection/<version>/reflection.proto that is used here."""
    file = descriptor_pb2.FileDescriptorProto(name=package.replace(".", "/") + ".proto", package=package, syntax="proto3")

    def message(name, *fields):
        m = file.message_type.add(name=name)
        for number, field, kind, label, type_name in fields:
            m.field.add(name=field, number=number, type=kind, label=label,
                        type_name=f".{package}.{type_name}" if type_name else None)
        return m

    one, many = FIELD.LABEL_OPTIONAL, FIELD.LABEL_REPEATED
    request = message("ServerReflectionRequest",
                      (1, "host", FIELD.TYPE_STRING, one, None),
                      (4, "file_containing_symbol", FIELD.TYPE_STRING, one, None),
                      (7, "list_services", FIELD.TYPE_STRING, one, None))
    request.oneof_decl.add(name="message_request")
    request.field[1].oneof_index = request.field[2].oneof_index = 0
    message("FileDescriptorResponse", (1, "file_descriptor_proto", FIELD.TYPE_BYTES, many, None))
    message("ServiceResponse", (1, "name", FIELD.TYPE_STRING, one, None))
    message("ListServiceResponse", (1, "service", FIELD.TYPE_MESSAGE, many, "ServiceResponse"))
    message("ErrorResponse", (1, "error_code", FIELD.TYPE_INT32, one, None),
            (2, "error_message", FIELD.TYPE_STRING, one, None))
    message("ServerReflectionResponse",
            (4, "file_descriptor_response", FIELD.TYPE_MESSAGE, one, "FileDescriptorResponse"),
            (6, "list_services_response", FIELD.TYPE_MESSAGE, one, "ListServiceResponse"),
            (7, "error_response", FIELD.TYPE_MESSAGE, one, "ErrorResponse"))
    return file


class Reflection:
    def __init__(self, channel, package):
        pool = descriptor_pool.DescriptorPool()
        pool.Add(reflection_file(package))
        self.request = GetMessageClass(pool.FindMessageTypeByName(package + ".ServerReflectionRequest"))
        response = GetMessageClass(pool.FindMessageTypeByName(package + ".ServerReflectionResponse"))
        self.call = channel.stream_stream(f"/{package}.ServerReflection/ServerReflectionInfo",
                                          request_serializer=self.request.SerializeToString,
                                          response_deserializer=response.FromString)

    def ask(self, **what):
        return next(self.call(iter([self.request(**what)]), timeout=10))

    def services(self):
        return sorted(s.name for s in self.ask(list_services="*").list_services_response.service)

    def files(self, symbol):
        answer = self.ask(file_containing_symbol=symbol)
        if answer.error_response.error_code:
            raise KeyError(f"{symbol}: {answer.error_response.error_message}")
        return [descriptor_pb2.FileDescriptorProto.FromString(b)
                for b in answer.file_descriptor_response.file_descriptor_proto]


def pool_fill(reflection, services):
    """A pool of all files that define the services; dependencies before their users."""
    files = {}
    for service in services:
        for file in reflection.files(service):
            files[file.name] = file
    pool, done = descriptor_pool.DescriptorPool(), set()

    def add(name):
        if name in files and name not in done:
            done.add(name)
            for dependency in files[name].dependency:
                add(dependency)
            pool.Add(files[name])

    for name in files:
        add(name)
    return pool


def method(channel, pool, service, name):
    descriptor = pool.FindServiceByName(service).FindMethodByName(name)
    request, response = GetMessageClass(descriptor.input_type), GetMessageClass(descriptor.output_type)
    is_stream = descriptor.containing_service is not None and is_server_stream(pool, service, name)
    make = channel.unary_stream if is_stream else channel.unary_unary
    return request, make(f"/{service}/{name}", request_serializer=request.SerializeToString,
                         response_deserializer=response.FromString)


def is_server_stream(pool, service, name):
    proto = descriptor_pb2.ServiceDescriptorProto()
    pool.FindServiceByName(service).CopyToProto(proto)
    return next(m.server_streaming for m in proto.method if m.name == name)


def main():
    address, path = sys.argv[1:]
    channel = grpc.insecure_channel(address)
    listed = [Reflection(channel, f"grpc.reflection.{v}").services() for v in ("v1", "v1alpha")]
    print("services:", ", ".join(listed[0]))
    assert listed[0] == listed[1], listed
    for name in ("gradd.v1.Gradd", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection",
                 "grpc.reflection.v1alpha.ServerReflection"):
        assert name in listed[0], f"{name} is not listed"

    reflection = Reflection(channel, "grpc.reflection.v1")
    try:
        reflection.files("gradd.v1.Nonsense")
        raise AssertionError("an unknown symbol was found")
    except KeyError as error:
        print("unknown symbol:", error)
    pool = pool_fill(reflection, listed[0])

    request, check = method(channel, pool, "grpc.health.v1.Health", "Check")
    health = check(request(), timeout=10)
    assert health.status == 1, health  # SERVING

    request, submit = method(channel, pool, "gradd.v1.Gradd", "Submit")
    with open(path, encoding="utf-8") as file:
        text = file.read()
    try:
        submit(request(yaml="naem: x\n" + text), timeout=10)
        raise AssertionError("a bad job was taken")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, error
        assert 'unknown key "naem" in the job; did you mean "name"?' in error.details(), error.details()
    job = submit(request(yaml=text, directory=os.path.dirname(os.path.abspath(path)),
                         set=[{"key": "training.steps", "value": "20"}]), timeout=10)
    print("job", job.id)

    request, watch = method(channel, pool, "gradd.v1.Gradd", "Watch")
    states = pool.FindEnumTypeByName("gradd.v1.State").values_by_number
    seen = []
    for event in watch(request(id=job.id), timeout=120):
        seen.append(states[event.state].name)
        print(f"  {seen[-1]} at step {event.step}: {event.reason}")
    assert seen[0] == "QUEUED" and seen[-1] == "SUCCEEDED", seen

    request, get = method(channel, pool, "gradd.v1.Gradd", "Get")
    job = get(request(id=job.id), timeout=10)
    assert job.step == 20 and len(job.parameters_sha256) == 64, job
    print("parameters", job.parameters_sha256)
    try:
        get(request(id="12345"), timeout=10)
        raise AssertionError("a job was found that isn't there")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.NOT_FOUND, error


if __name__ == "__main__":
    main()
