// Runs the engine of Perfetto's UI (its worker script and trace_processor.wasm) inside Node.
//
// The worker script expects a browser's worker: it is called as a function whose parameters shadow
// the globals that it would find there. It talks over a MessagePort in TraceProcessorRpc messages,
// each framed as field 1 of a stream, and answers requests in their order.
'use strict';
const fs = require('fs');
const path = require('path');
const {uint, bytes, readVarint, field} = require('./wire.cjs');

const SCRIPT = 'engine_bundle.js';
const EMPTY = Buffer.alloc(0);
// Fields of TraceProcessorRpc and of the query's answer.
const STREAM_MESSAGE = 1, SEQUENCE = 1, REQUEST = 2, FATAL_ERROR = 5;
const QUERY_BATCH = 3, IS_LAST_BATCH = 6;

/** Starts the worker script of `dist`; resolves when its wasm module has been set up. */
async function startWorker(dist, port) {
  const read = (url) => fs.readFileSync(path.join(dist, path.basename(String(url))));
  const self = {location: {href: `http://127.0.0.1/${SCRIPT}`}};

  class FileRequest {
    open(_method, url) { this.url = url; }
    send() { this.response = new Uint8Array(read(this.url)).buffer; }
  }
  let initialised;
  const ready = new Promise((resolve) => { initialised = resolve; });
  // The module is ready once its trace_processor_rpc_init has returned.
  const watched = (instance) => {
    const init = instance.exports.trace_processor_rpc_init;
    return {exports: {...instance.exports, trace_processor_rpc_init: (...parameters) => {
      const result = init(...parameters);
      setImmediate(initialised);
      return result;
    }}};
  };
  const instantiate = async (source, imports) => {
    const given = await source;
    const code = given instanceof Response ? await given.arrayBuffer() : given;
    const {module, instance} = await WebAssembly.instantiate(code, imports);
    return {module, instance: watched(instance)};
  };
  const web = Object.create(WebAssembly, {
    instantiate: {value: instantiate},
    instantiateStreaming: {value: instantiate},
    Instance: {value: function (module, imports) {
      return watched(new WebAssembly.Instance(module, imports));
    }},
  });
  const globals = {
    self,
    process: undefined, // else the script takes itself to be in Node
    require: undefined,
    window: undefined,
    document: undefined,
    WorkerGlobalScope: class {},
    XMLHttpRequest: FileRequest,
    fetch: async (url) => new Response(read(url), {headers: {'Content-Type': 'application/wasm'}}),
    console: {...console, log() {}, info() {}, warn() {}},
    WebAssembly: web,
  };
  new Function(...Object.keys(globals), read(SCRIPT).toString())(...Object.values(globals));
  self.onmessage({data: port});
  await ready;
}

class Engine {
  #received = EMPTY;
  #waiting = []; // of the requests under way: called with each answer, true when it was the last
  #sent = 0;
  #port = {postMessage: (data) =>
    this.#receive(Buffer.from(data.buffer, data.byteOffset, data.byteLength))};

  static async start(dist) {
    const engine = new Engine();
    await startWorker(dist, engine.#port);
    return engine;
  }

  #receive(data) {
    this.#received = Buffer.concat([this.#received, data]);
    for (;;) {
      const length = readVarint(this.#received, 1);
      if (length === null || this.#received.length < length[1] + length[0]) return;
      const end = length[1] + length[0];
      const answer = Buffer.from(this.#received.subarray(length[1], end));
      this.#received = this.#received.subarray(end);
      if (this.#waiting[0](answer)) this.#waiting.shift();
    }
  }

  /** Calls a method; resolves with the bytes of `resultField`, of all answers one after another. */
  call({method, argument, result, isLast = () => true}, data = EMPTY) {
    return new Promise((resolve, reject) => {
      const parts = [];
      this.#waiting.push((answer) => {
        const fatal = field(answer, FATAL_ERROR);
        if (fatal !== undefined) {
          reject(new Error(fatal.toString()));
          return true;
        }
        const part = result ? field(answer, result, EMPTY) : EMPTY;
        parts.push(part);
        if (!isLast(part)) return false;
        resolve(Buffer.concat(parts));
        return true;
      });
      const request = [uint(SEQUENCE, ++this.#sent), uint(REQUEST, method)];
      if (argument) request.push(bytes(argument, data));
      this.#port.onmessage({data: new Uint8Array(bytes(STREAM_MESSAGE, Buffer.concat(request)))});
    });
  }
}

/** Whether a QueryResult holds the query's last batch of rows. */
const isLastBatch = (result) => field(field(result, QUERY_BATCH, EMPTY), IS_LAST_BATCH) === 1;

/** Methods by the path of their HTTP call: number, and the fields of argument and result. */
const METHODS = {
  '/parse': {method: 1, argument: 101, result: 201},
  '/notify_eof': {method: 2, result: 212},
  '/query': {method: 3, argument: 103, result: 203, isLast: isLastBatch},
  '/compute_metric': {method: 5, argument: 105, result: 205},
  '/restore_initial_tables': {method: 7},
  '/status': {method: 10, result: 210},
  '/reset': {method: 11, argument: 107}, // ours: forget the trace
  '/trace_summary': {method: 15, argument: 110, result: 214},
};

module.exports = {Engine, METHODS};
