// Reads the metadata of an ONNX model from the file, because ONNX Runtime for JavaScript does not return them.

const METADATA_PROPS = 14; // the field's number in onnx.ModelProto

/** Returns the metadata of a model, a Uint8Array, as an object of strings: labels, step, test_accuracy, ... */
export function metadataOf(model) {
  const text = (bytes) => new TextDecoder().decode(bytes);
  const pairs = [...fieldsOf(model)].filter(([number]) => number === METADATA_PROPS);
  return Object.fromEntries(pairs.map(([, pair]) => [...fieldsOf(pair)].map(([, value]) => text(value))));
}

/** Yields [number, content] of each length-delimited field (message, string or bytes) of a protobuf message. */
function* fieldsOf(message) {
  let position = 0;
  const varint = () => {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = message[position++];
      value += (byte & 127) * factor;
      if (!(byte & 128)) {
        return value;
      }
    }
  };
  while (position < message.length) {
    const tag = varint();
    const number = Math.floor(tag / 8);
    switch (tag & 7) {
      case 0: // varint
        varint();
        break;
      case 1: // 64 bits
        position += 8;
        break;
      case 2: { // length-delimited
        const length = varint();
        yield [number, message.subarray(position, position + length)];
        position += length;
        break;
      }
      case 5: // 32 bits
        position += 4;
        break;
      default:
        throw new Error("not an ONNX model");
    }
  }
}
