"""Compile `oip.proto`, the Open Inference Protocol over gRPC: `python scripts/grpc_stubs.py`."""

from pathlib import Path

from grpc_tools import protoc

FOLDER = Path(__file__).parent.parent / "src/mosel/frontend/oip"


def main() -> None:
    """Write the compiled form beside the source."""
    out = FOLDER / "oip.binpb"
    words = ["protoc", f"-I{FOLDER}", f"--descriptor_set_out={out}", str(FOLDER / "oip.proto")]
    if status := protoc.main(words):
        raise SystemExit(status)
    print(out)


if __name__ == "__main__":
    main()
