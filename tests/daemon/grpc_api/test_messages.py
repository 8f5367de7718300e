"""What is on the wire is what clients have: compared with the messages of one of them."""

import pytest
from tritonclient.grpc import model_config_pb2, service_pb2

from dreamer.daemon.grpc_api import messages

# Defined inside of others by the protocol's files; of that nothing is on the wire.
OWNERS = {
    "TensorMetadata": "ModelMetadataResponse",
    "InferInputTensor": "ModelInferRequest",
    "InferRequestedOutputTensor": "ModelInferRequest",
    "InferOutputTensor": "ModelInferResponse",
    "ModelIndex": "RepositoryIndexResponse",
}
GOOGLES = ("Duration", "RetryInfo", "Any", "Status")
NAMES = [name for name in messages._MESSAGES if name not in GOOGLES]


def theirs(name):
    owner = OWNERS.get(name)
    for file in (service_pb2, model_config_pb2):
        if owner and hasattr(file, owner):
            return getattr(file, owner).DESCRIPTOR.nested_types_by_name[name]
        if hasattr(file, name):
            return getattr(file, name).DESCRIPTOR
    raise KeyError(name)


def described(field):
    kind = field.message_type or field.enum_type
    entry = field.message_type is not None and field.message_type.GetOptions().map_entry
    inner = [described(one) for one in field.message_type.fields] if entry else kind and kind.name
    choice = field.containing_oneof and field.containing_oneof.name
    return field.number, field.name, field.type, field.is_repeated, inner, choice


@pytest.mark.parametrize("name", NAMES)
def test_every_field_is_what_clients_have(name):
    known = {field.number: described(field) for field in theirs(name).fields}
    ours = messages.message(name).DESCRIPTOR.fields
    assert [known.get(field.number) for field in ours] == [described(field) for field in ours]


def test_every_data_type_has_their_number():
    numbers = {f"TYPE_{name}": number for number, name in enumerate(messages._DATA_TYPES)}
    assert numbers == dict(model_config_pb2.DataType.items())


def test_a_clients_request_is_read_and_what_is_not_known_is_skipped():
    sent = service_pb2.ModelInferRequest(model_name="m", raw_input_contents=[b"\x01"])
    sent.inputs.add(name="x", datatype="UINT8", shape=[1]).parameters["p"].bool_param = True
    read = messages.message("ModelInferRequest").FromString(sent.SerializeToString())
    assert (read.inputs[0].name, list(read.inputs[0].shape)) == ("x", [1])
    assert read.inputs[0].parameters["p"].bool_param
    config = model_config_pb2.ModelConfig(name="m", default_model_filename="model.onnx")
    assert messages.message("ModelConfig").FromString(config.SerializeToString()).name == "m"


def test_classes_do_not_meet_those_of_a_client():
    assert messages.message("ModelInferRequest") is not service_pb2.ModelInferRequest
    pools = {
        messages.message("ModelReadyRequest").DESCRIPTOR.file.pool,
        service_pb2.DESCRIPTOR.pool,
    }
    assert len(pools) == 2
