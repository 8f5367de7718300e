"""The messages of the protocol's gRPC form, made from a description of what is on the wire.

Numbers, types and names of fields are those of the protocol (KServe's and Triton's
``grpc_service.proto`` and ``model_config.proto``); what no client needs of a node is left out, and
skipped when it comes, as protobuf does. The classes live in a pool of their own: a program that has
a client of the protocol beside this has messages of the same names.

A description is a line for each field, ``number name type``: a type of protobuf, another message's
name, ``[]`` after it where it repeats, ``map`` for a map from texts; ``|`` before it where it is
one of several of which one is set.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from dreamer.protocol.errors import InputError

PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"

_PARAMETERS = "parameters map:InferParameter"
_NAMED = "1 name string, 2 version string"

_MESSAGES = {
    "ServerLiveRequest": "",
    "ServerLiveResponse": "1 live bool",
    "ServerReadyRequest": "",
    "ServerReadyResponse": "1 ready bool",
    "ModelReadyRequest": _NAMED,
    "ModelReadyResponse": "1 ready bool",
    "ServerMetadataRequest": "",
    "ServerMetadataResponse": "1 name string, 2 version string, 3 extensions string[]",
    "ModelMetadataRequest": _NAMED,
    "TensorMetadata": "1 name string, 2 datatype string, 3 shape int64[]",
    "ModelMetadataResponse": "1 name string, 2 versions string[], 3 platform string,"
    "4 inputs TensorMetadata[], 5 outputs TensorMetadata[]",
    "InferParameter": "|1 bool_param bool, |2 int64_param int64, |3 string_param string,"
    "|4 double_param double, |5 uint64_param uint64",
    "InferTensorContents": "1 bool_contents bool[], 2 int_contents int32[],"
    "3 int64_contents int64[], 4 uint_contents uint32[], 5 uint64_contents uint64[],"
    "6 fp32_contents float[], 7 fp64_contents double[], 8 bytes_contents bytes[]",
    "InferInputTensor": f"1 name string, 2 datatype string, 3 shape int64[], 4 {_PARAMETERS},"
    "5 contents InferTensorContents",
    "InferRequestedOutputTensor": f"1 name string, 2 {_PARAMETERS}",
    "ModelInferRequest": f"1 model_name string, 2 model_version string, 3 id string,"
    f"4 {_PARAMETERS}, 5 inputs InferInputTensor[], 6 outputs InferRequestedOutputTensor[],"
    "7 raw_input_contents bytes[]",
    "InferOutputTensor": f"1 name string, 2 datatype string, 3 shape int64[], 4 {_PARAMETERS},"
    "5 contents InferTensorContents",
    "ModelInferResponse": f"1 model_name string, 2 model_version string, 3 id string,"
    f"4 {_PARAMETERS}, 5 outputs InferOutputTensor[], 6 raw_output_contents bytes[]",
    "ModelStreamInferResponse": "1 error_message string, 2 infer_response ModelInferResponse",
    "ModelConfigRequest": _NAMED,
    "ModelInput": "1 name string, 2 data_type enum:DataType, 4 dims int64[], 8 optional bool",
    "ModelOutput": "1 name string, 2 data_type enum:DataType, 3 dims int64[]",
    "ModelTransactionPolicy": "1 decoupled bool",
    "ModelConfig": "1 name string, 2 platform string, 4 max_batch_size int32, 5 input ModelInput[],"
    "6 output ModelOutput[], 17 backend string,"
    "19 model_transaction_policy ModelTransactionPolicy",
    "ModelConfigResponse": "1 config ModelConfig",
    "ModelStatisticsRequest": _NAMED,
    "StatisticDuration": "1 count uint64, 2 ns uint64",
    "InferStatistics": "1 success StatisticDuration, 2 fail StatisticDuration,"
    "3 queue StatisticDuration, 4 compute_input StatisticDuration,"
    "5 compute_infer StatisticDuration, 6 compute_output StatisticDuration,"
    "7 cache_hit StatisticDuration, 8 cache_miss StatisticDuration",
    "MemoryUsage": "1 type string, 2 id int64, 3 byte_size uint64",
    "ModelStatistics": "1 name string, 2 version string, 3 last_inference uint64,"
    "4 inference_count uint64, 5 execution_count uint64, 6 inference_stats InferStatistics,"
    "8 memory_usage MemoryUsage[]",
    "ModelStatisticsResponse": "1 model_stats ModelStatistics[]",
    "ModelRepositoryParameter": "|1 bool_param bool, |2 int64_param int64, |3 string_param string,"
    "|4 bytes_param bytes",
    "RepositoryIndexRequest": "1 repository_name string, 2 ready bool",
    "ModelIndex": "1 name string, 2 version string, 3 state string, 4 reason string",
    "RepositoryIndexResponse": "1 models ModelIndex[]",
    "RepositoryModelLoadRequest": "1 repository_name string, 2 model_name string,"
    "3 parameters map:ModelRepositoryParameter",
    "RepositoryModelLoadResponse": "",
    "RepositoryModelUnloadRequest": "1 repository_name string, 2 model_name string,"
    "3 parameters map:ModelRepositoryParameter",
    "RepositoryModelUnloadResponse": "",
    # What google.rpc tells of an error in "grpc-status-details-bin".
    "Duration": "1 seconds int64, 2 nanos int32",
    "RetryInfo": "1 retry_delay Duration",
    "Any": "1 type_url string, 2 value bytes",
    "Status": "1 code int32, 2 message string, 3 details Any[]",
}

_DATA_TYPES = (
    *("INVALID", "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32"),
    *("INT64", "FP16", "FP32", "FP64", "STRING", "BF16"),
)
"""Names of ``DataType`` without their TYPE_, each at the place that is its number."""

_FIELD = descriptor_pb2.FieldDescriptorProto


def _field(message: Any, text: str, oneof: bool) -> None:
    number, name, kind = text.split()
    field = message.field.add(name=name, number=int(number))
    repeats = kind.endswith("[]") or kind.startswith("map:")
    field.label = _FIELD.LABEL_REPEATED if repeats else _FIELD.LABEL_OPTIONAL
    kind = kind.removesuffix("[]")
    if kind.startswith("map:"):
        entry = _map_entry(message, name, kind.removeprefix("map:"))
        field.type, field.type_name = _FIELD.TYPE_MESSAGE, f".{PACKAGE}.{message.name}.{entry}"
    else:
        _set_type(field, kind)
    if oneof:
        field.oneof_index = 0


def _set_type(field: Any, kind: str) -> None:
    if kind.startswith("enum:"):
        field.type = _FIELD.TYPE_ENUM
        field.type_name = f".{PACKAGE}.{kind.removeprefix('enum:')}"
    elif kind in _MESSAGES:
        field.type, field.type_name = _FIELD.TYPE_MESSAGE, f".{PACKAGE}.{kind}"
    else:
        field.type = getattr(_FIELD, f"TYPE_{kind.upper()}")


def _map_entry(message: Any, name: str, kind: str) -> str:
    # A map is a repeated message of this very form and name (protobuf's language guide).
    entry = message.nested_type.add(name=f"{name.title().replace('_', '')}Entry")
    entry.options.map_entry = True
    _field(entry, "1 key string", oneof=False)
    _field(entry, f"2 value {kind}", oneof=False)
    return str(entry.name)


def _described() -> Any:
    file = descriptor_pb2.FileDescriptorProto(
        name="dreamer/open_inference.proto", package=PACKAGE, syntax="proto3"
    )
    types = file.enum_type.add(name="DataType")
    for number, name in enumerate(_DATA_TYPES):
        types.value.add(name=f"TYPE_{name}", number=number)
    for name, lines in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for line in filter(None, lines.split(",")):
            text = line.strip()
            if text.startswith("|") and not message.oneof_decl:
                message.oneof_decl.add(name="parameter_choice")
            _field(message, text.removeprefix("|"), oneof=text.startswith("|"))
    return file


_POOL = descriptor_pool.DescriptorPool()
_POOL.Add(_described())


def message(name: str) -> Any:
    """Return the class of a message by its name.

    Raises:
        KeyError: there is none of that name.
    """
    found = _POOL.FindMessageTypeByName(f"{PACKAGE}.{name}")
    return message_factory.GetMessageClass(found)


def parse(kind: Any, data: bytes) -> Any:
    """Return a message, or the error to raise once there is somebody to tell it to."""
    try:
        return kind.FromString(data)
    except DecodeError:
        return InputError(f"this is no message of type {kind.DESCRIPTOR.name}")


def parsed(message: Any) -> Any:
    """Return a message that ``parse`` returned.

    Raises:
        InputError: it was none.
    """
    if isinstance(message, InputError):
        raise message
    return message
