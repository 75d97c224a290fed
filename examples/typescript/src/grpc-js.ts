// A transport for generated clients over @grpc/grpc-js: unary calls, and calls that stream their
// answers.

import {
  create,
  fromBinary,
  toBinary,
  type DescMessage,
  type DescMethod,
  type MessageInitShape,
  type MessageShape,
} from "@bufbuild/protobuf";
import { Code, ConnectError, type Transport } from "@connectrpc/connect";
import { StatusSchema } from "@daskgateway/stubs/google/rpc/status_pb.js";
import * as grpc from "@grpc/grpc-js";

export function createGrpcJsTransport(
  address: URL,
  ca: Buffer | undefined,
  authorization: string | undefined,
): { transport: Transport; close: () => void } {
  const secured =
    address.protocol === "https:" ? grpc.credentials.createSsl(ca) : grpc.credentials.createInsecure();
  const client = new grpc.Client(address.host, secured);

  function metadata(header: HeadersInit | undefined): grpc.Metadata {
    const made = new grpc.Metadata();
    new Headers(header).forEach((value, name) => made.set(name, value));
    if (authorization) {
      made.set("authorization", authorization);
    }
    return made;
  }

  const transport: Transport = {
    unary(method, signal, timeoutMs, header, input) {
      return new Promise((resolve, reject) => {
        let answer: MessageShape<typeof method.output> | undefined;
        let head = new grpc.Metadata();
        const call = client.makeUnaryRequest(
          pathOf(method),
          writing(method.input),
          reading(method.output),
          create(method.input, input) as MessageShape<typeof method.input>,
          metadata(header),
          options(timeoutMs),
          (error, value) => {
            answer = value;
            if (error) {
              reject(refusal(error));
            }
          },
        );
        call.on("metadata", (found) => (head = found));
        call.on("status", (status) => {
          if (status.code === grpc.status.OK && answer !== undefined) {
            const trailer = headers(status.metadata);
            const service = method.parent;
            resolve({ stream: false, service, method, header: headers(head), trailer, message: answer });
          }
        });
        signal?.addEventListener("abort", () => call.cancel());
      });
    },

    async stream(method, signal, timeoutMs, header, input) {
      const message = await only<MessageInitShape<typeof method.input>>(input);
      const call = client.makeServerStreamRequest(
        pathOf(method),
        writing(method.input),
        reading(method.output),
        create(method.input, message) as MessageShape<typeof method.input>,
        metadata(header),
        options(timeoutMs),
      );
      call.on("error", () => {}); // told to who reads; nobody does once it is cancelled
      signal?.addEventListener("abort", () => call.cancel());
      const trailer = new Headers();
      return {
        stream: true,
        service: method.parent,
        method,
        header: new Headers(),
        trailer,
        message: answers<MessageShape<typeof method.output>>(call),
      };
    },
  };
  return { transport, close: () => client.close() };
}

async function* answers<T>(call: grpc.ClientReadableStream<T>): AsyncGenerator<T> {
  try {
    for await (const message of call) {
      yield message as T;
    }
  } catch (error) {
    throw refusal(error as grpc.ServiceError);
  } finally {
    call.cancel();
  }
}

async function only<T>(input: AsyncIterable<T>): Promise<T> {
  for await (const message of input) {
    return message;
  }
  throw new ConnectError("a call of this kind has one message", Code.Internal);
}

function pathOf(method: DescMethod): string {
  return `/${method.parent.typeName}/${method.name}`;
}

function writing<T extends DescMessage>(schema: T) {
  return (message: MessageShape<T>): Buffer => Buffer.from(toBinary(schema, message));
}

function reading<T extends DescMessage>(schema: T) {
  return (content: Buffer): MessageShape<T> => fromBinary(schema, content);
}

function options(timeoutMs: number | undefined): grpc.CallOptions {
  return timeoutMs === undefined ? {} : { deadline: Date.now() + timeoutMs };
}

function headers(found: grpc.Metadata): Headers {
  const made = new Headers();
  for (const [name, value] of Object.entries(found.getMap())) {
    if (typeof value === "string") {
      made.set(name, value);
    }
  }
  return made;
}

/** An error of gRPC as one of Connect: the codes are the same numbers, the details the same messages. */
function refusal(error: grpc.ServiceError): ConnectError {
  const made = new ConnectError(error.details ?? String(error), error.code as number as Code);
  const [status] = error.metadata?.get("grpc-status-details-bin") ?? [];
  if (status instanceof Buffer) {
    made.details = fromBinary(StatusSchema, status).details.map((detail) => ({
      type: detail.typeUrl.slice(detail.typeUrl.lastIndexOf("/") + 1),
      value: detail.value,
    }));
  }
  return made;
}
