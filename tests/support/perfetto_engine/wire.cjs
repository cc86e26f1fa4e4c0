// As much of the protobuf wire format as the engine's RPC frames need.
'use strict';

function varint(number) {
  const bytes = [];
  for (; number > 127; number = Math.floor(number / 128)) bytes.push((number % 128) | 128);
  bytes.push(number);
  return Buffer.from(bytes);
}

/** A field of type uint: key and value. */
const uint = (field, value) => Buffer.concat([varint(field * 8), varint(value)]);

/** A field of type bytes, string or message. */
const bytes = (field, data) => Buffer.concat([varint(field * 8 + 2), varint(data.length), data]);

/** Reads a varint at `at`: [value, offset behind it], or null when `data` ends before it does. */
function readVarint(data, at) {
  for (let value = 0, scale = 1; at < data.length; scale *= 128) {
    const byte = data[at++];
    value += (byte & 127) * scale;
    if (byte < 128) return [value, at];
  }
  return null;
}

/** Yields [field, value] of a whole message; values are numbers or Buffers. */
function* fields(data) {
  for (let at = 0; at < data.length;) {
    let key, value;
    [key, at] = readVarint(data, at);
    const kind = key % 8;
    if (kind === 0) {
      [value, at] = readVarint(data, at);
    } else {
      let length = kind === 1 ? 8 : 4;
      if (kind === 2) [length, at] = readVarint(data, at);
      value = data.subarray(at, at + length);
      at += length;
    }
    yield [Math.floor(key / 8), value];
  }
}

/** The last value of a field, or `otherwise`. */
function field(data, number, otherwise) {
  let found = otherwise;
  for (const [n, value] of fields(data)) if (n === number) found = value;
  return found;
}

module.exports = {uint, bytes, readVarint, fields, field};
