"""Between bytes, which is what travels, and the types that a callable's annotations ask for.

Decoding and checking against dataclasses, `dict`, `list` and the like is msgspec's work, that of models pydantic's own;
both are imported only when a callable asks for them. What is written is strict JSON: no NaN, no bytes.
"""

from __future__ import annotations

from faasflow.codec.decoders import build_decoders, json_decoder, msgpack_decoder
from faasflow.codec.decoding import (
    check_annotation,
    check_each_annotation,
    decode,
    decode_each,
    json_or_text,
    readable,
    type_of,
)
from faasflow.codec.encoding import encode, encode_json
from faasflow.codec.parameters import Parameter, parameter_of, parameter_type, results_type

__all__ = [
    "Parameter",
    "build_decoders",
    "check_annotation",
    "check_each_annotation",
    "decode",
    "decode_each",
    "encode",
    "encode_json",
    "json_decoder",
    "json_or_text",
    "msgpack_decoder",
    "parameter_of",
    "parameter_type",
    "readable",
    "results_type",
    "type_of",
]
