// What the service promises, read from its OpenRPC and AsyncAPI documents.
import { kindOf, write } from "./json.js";

/** The named types of a document. */
export class Types {
  constructor(schemas) {
    this.schemas = new Map(Object.entries(schemas ?? {}));
  }

  /** Follow a schema's references; what stands beside one counts too. */
  resolve(schema) {
    let found = schema === true || schema == null ? {} : schema;
    for (let step = 0; step < 30 && found; step++) {
      if (typeof found.$ref === "string") {
        const { $ref, ...beside } = found;
        found = { ...this.schemas.get(nameOf($ref)), ...beside };
      } else if (Array.isArray(found.allOf)) {
        const { allOf, ...beside } = found;
        found = Object.assign({}, ...allOf.map((each) => this.resolve(each)), beside);
      } else break;
    }
    if (found.type === "array" && Array.isArray(found.items)) {
      // draft 7, of AsyncAPI
      found = { ...found, prefixItems: found.items, items: found.additionalItems };
    }
    return found;
  }
}

/** The name of the type that is referred to. */
export function nameOf(ref) {
  const last = ref.slice(ref.lastIndexOf("/") + 1);
  return last.replaceAll("~1", "/").replaceAll("~0", "~");
}

/** The name of a schema's type where it has one, for itself or through a reference. */
export function typeName(schema) {
  const inner = schema?.allOf?.length === 1 ? schema.allOf[0] : schema;
  return typeof inner?.$ref === "string" ? nameOf(inner.$ref) : null;
}

const SECRET_NAME =
  /(^|[_-])((pass(word|wd|phrase|code)?|pwd|secret|credential)s?|token|otp|pin|cvc|cvv|authorization|(api|access|private|secret|signing)[_-]?key)([_-]?(\d+|again|confirm(ation)?|repeat(ed)?))?$/i;
const CAPITALS = /([a-z0-9])([A-Z])/g; // accessToken is access_token

/** List the schemas that a value may be of: those of a union each. */
function optionsOf(schema, types, depth = 0) {
  const found = types.resolve(schema);
  const options = depth < 5 && (found.anyOf ?? found.oneOf);
  return options ? [found, ...options.flatMap((each) => optionsOf(each, types, depth + 1))] : [found];
}

/** Tell whether a value is a secret: its schema says so, or its name. */
export function isSecret(name, schema, types) {
  return (
    SECRET_NAME.test(name.replace(CAPITALS, "$1_$2")) ||
    optionsOf(schema, types).some((each) => each.writeOnly === true || each.format === "password")
  );
}

/** Return params without what is secret in them, at any depth. */
export function withoutSecrets(params, method) {
  const { types } = method;
  const within = (options, of) => ({ anyOf: options.map(of).filter((each) => each !== undefined) });
  const list = (values, schemaAt) => {
    const first = values.findIndex((_, at) => isSecret(...schemaAt(at), types));
    // What follows would take its place.
    return (first < 0 ? values : values.slice(0, first)).map((one, at) => clean(one, schemaAt(at)[1]));
  };
  const clean = (value, schema) => {
    const options = optionsOf(schema, types);
    const kind = kindOf(value);
    if (kind === "array")
      return list(value, (at) => ["", within(options, (each) => each.prefixItems?.[at] ?? each.items)]);
    if (kind !== "object") return value;
    const at = (key) =>
      within(options, ({ properties = {}, additionalProperties }) =>
        Object.hasOwn(properties, key) ? properties[key] : additionalProperties || undefined,
      );
    return Object.fromEntries(
      Object.entries(value)
        .filter(([key]) => !isSecret(key, at(key), types))
        .map(([key, one]) => [key, clean(one, at(key))]),
    );
  };
  if (Array.isArray(params)) {
    const positions = method.params.filter((each) => each["x-kind"] !== "named");
    return list(params, (at) => {
      const { name, schema } = positions[at] ?? method["x-rest"] ?? { name: "" };
      return [name, schema];
    });
  }
  const properties = Object.fromEntries(method.params.map((each) => [each.name, each.schema]));
  return clean(params, { properties, additionalProperties: method["x-named-rest"]?.schema });
}

/** Tell whether one of a method's parameters is a secret. */
export const takesSecrets = ({ params, types }) =>
  params.some(({ name, schema }) => isSecret(name, schema, types));

/** Tell whether every service has a method of this name. */
export const isEverywhere = ({ name }) => name === "get_service_specs" || name === "statistics";

export class Contract {
  constructor(openrpc, asyncapi) {
    this.title = openrpc.info?.title ?? "";
    this.version = openrpc.info?.version ?? "";
    this.description = openrpc.info?.description ?? "";
    this.servers = (openrpc.servers ?? []).map((each) => String(each.url ?? ""));
    const types = new Types(openrpc.components?.schemas);
    this.errorsAlways = openrpc["x-errors-always"] ?? [];
    this.methods = (openrpc.methods ?? []).map((method) => ({
      ...method,
      types,
      params: method.params ?? [],
    }));
    this.events = asyncapi ? eventsOf(asyncapi) : [];
    this.byName = new Map(this.methods.map((method) => [method.name, method]));
  }

  method(name) {
    return this.byName.get(name);
  }

  /** The params of a call as text, without what is secret. */
  textOf({ method, params }) {
    const known = this.method(method);
    return write(known ? withoutSecrets(params, known) : {});
  }

  event(action, name) {
    return this.events.find((each) => each.action === action && each.name === name);
  }

  /** The errors that a method may answer with: its own, then those of every method. */
  errorsOf(method) {
    return [...(method["x-errors"] ?? method.errors ?? []), ...this.errorsAlways];
  }

  /** Methods by tag, or by the first part of a dotted name; those that have neither come first, and
   *  what every service has comes last. */
  groups() {
    const found = new Map();
    for (const method of this.methods) {
      const dot = method.name.indexOf(".");
      const name = isEverywhere(method)
        ? "\uffff"
        : (method.tags?.[0]?.name ?? (dot > 0 ? method.name.slice(0, dot) : ""));
      if (!found.has(name)) found.set(name, []);
      found.get(name).push(method);
    }
    return [...found].sort(([a], [b]) => (a < b ? -1 : 1));
  }
}

/** An event once for each way: what the service emits ("emits") and what it handles ("handles"). */
function eventsOf(asyncapi) {
  const types = new Types(asyncapi.components?.schemas);
  const messages = asyncapi.components?.messages ?? {};
  const found = new Map();
  for (const operation of Object.values(asyncapi.operations ?? {})) {
    if (operation["x-dead-letters"]) continue;
    const action = operation.action === "send" ? "emits" : "handles";
    const channel = asyncapi.channels?.[nameOf(operation.channel?.$ref ?? "")];
    for (const { $ref } of operation.messages ?? []) {
      const id = nameOf($ref ?? "");
      const message = messages[nameOf(channel?.messages?.[id]?.$ref ?? id)];
      if (!message) continue;
      found.set(`${action} ${message.name}`, {
        action,
        name: message.name,
        summary: message.summary ?? "",
        description: message.description ?? "",
        schema: message.payload ?? {},
        everyInstance: operation["x-scope"] === "instance",
        types,
      });
    }
  }
  return [...found.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
}
