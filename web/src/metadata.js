// Reads the metadata of an ONNX model, because ONNX Runtime for JavaScript has no function for them.

const METADATA = 14; // field number of metadata_props in onnx.ModelProto

/** Returns a model's metadata by key: `labels`, `step`, `test_accuracy`, ... */
export function metadataOf(model) {
  const text = (bytes) => new TextDecoder().decode(bytes);
  const pairs = [...fieldsOf(model)].filter(([number]) => number === METADATA);
  return Object.fromEntries(pairs.map(([, pair]) => [...fieldsOf(pair)].map(([, value]) => text(value))));
}

/** Yields the length-delimited fields of a protobuf message (messages, strings, bytes): [number, content]. */
function* fieldsOf(message) {
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = message[at++];
      value += (byte & 127) * factor;
      if (!(byte & 128)) {
        return value;
      }
    }
  };
  while (at < message.length) {
    const tag = varint();
    const number = Math.floor(tag / 8);
    switch (tag & 7) {
      case 0:
        varint();
        break;
      case 1:
        at += 8;
        break;
      case 2: {
        const length = varint();
        yield [number, message.subarray(at, at + length)];
        at += length;
        break;
      }
      case 5:
        at += 4;
        break;
      default:
        throw new Error("not an ONNX model");
    }
  }
}
