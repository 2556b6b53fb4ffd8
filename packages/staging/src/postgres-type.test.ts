import { describe, expect, it } from "vitest";
import type { FieldProfile, MappingField } from "./manifest.ts";
import { proposeType, TYPE_ROWS } from "./postgres-type.ts";

type ProfileChange = Partial<Omit<FieldProfile, "kinds" | "shapes">> & {
  kinds?: Partial<FieldProfile["kinds"]>;
  shapes?: Partial<FieldProfile["shapes"]>;
};

/** A profile of ten documents with nothing in them but what is given. */
function profile({ kinds, shapes, ...rest }: ProfileChange = {}): FieldProfile {
  return {
    path: "f",
    kinds: { string: 0, integer: 0, decimal: 0, boolean: 0, object: 0, null: 0, ...kinds },
    present: 10,
    arrays: 0,
    array_length_max: 0,
    length_max: 0,
    bytes_max: 0,
    integer_digits_max: 0,
    scale_max: 0,
    min: null,
    max: null,
    shapes: { date: 0, number: 0, boolean: 0, uuid: 0, empty: 0, nul: 0, ...shapes },
    date_formats: [],
    samples: [],
    ...rest,
  };
}

function propose(type: string, change?: ProfileChange, field: Partial<MappingField> = {}) {
  return proposeType({ path: "f", type, ...field }, change === undefined ? undefined : profile(change));
}

describe("proposeType by the mapping alone", () => {
  it.each<[string, string, string[]]>([
    ["keyword", "text", []],
    ["wildcard", "text", []],
    ["counted_keyword", "text", []],
    ["constant_keyword", "text", []],
    ["text", "text", []],
    ["match_only_text", "text", []],
    ["search_as_you_type", "text", []],
    ["annotated_text", "text", []],
    ["pattern_text", "text", []],
    ["long", "bigint", ["numeric"]],
    ["integer", "integer", ["bigint", "numeric"]],
    ["short", "smallint", ["integer", "bigint"]],
    ["byte", "smallint", ["integer", "bigint"]],
    ["unsigned_long", "numeric(20,0)", []],
    ["double", "double precision", ["numeric"]],
    ["float", "real", ["numeric", "double precision"]],
    ["half_float", "real", ["numeric", "double precision"]],
    ["scaled_float", "numeric", ["double precision"]],
    ["boolean", "boolean", ["text"]],
    ["date", "timestamptz", ["date", "timestamp"]],
    ["date_nanos", "timestamptz", ["bigint", "text"]],
    ["ip", "inet", ["text"]],
    ["integer_range", "int4range", ["jsonb"]],
    ["long_range", "int8range", ["jsonb"]],
    ["float_range", "numrange", ["jsonb"]],
    ["double_range", "numrange", ["jsonb"]],
    ["date_range", "tstzrange", ["jsonb"]],
    ["ip_range", "text", ["cidr", "jsonb"]],
    ["geo_point", "point", ["jsonb", "geography(Point)"]],
    ["geo_shape", "jsonb", ["text", "geometry"]],
    ["shape", "jsonb", ["text", "geometry"]],
    ["point", "jsonb", ["text", "geometry"]],
    ["object", "jsonb", ["text"]],
    ["passthrough", "jsonb", ["text"]],
    ["nested", "jsonb", []],
    ["flattened", "jsonb", ["hstore"]],
    ["dense_vector", "real[]", ["vector", "jsonb"]],
    ["sparse_vector", "jsonb", []],
    ["rank_features", "jsonb", []],
    ["rank_feature", "real", ["numeric"]],
    ["binary", "bytea", ["text"]],
    ["version", "text", []],
    ["histogram", "jsonb", []],
    ["aggregate_metric_double", "jsonb", []],
    ["tdigest", "jsonb", []],
    ["exponential_histogram", "jsonb", []],
    ["join", "text", ["jsonb"]],
    ["completion", "jsonb", []],
    ["percolator", "jsonb", []],
    ["semantic_text", "jsonb", []],
    ["alias", "none", []],
    ["token_count", "none", []],
    ["murmur3", "none", []],
    ["runtime", "none", []],
    ["a_type_of_next_year", "jsonb", ["text"]],
  ])("%s becomes %s", (type, expected, alternatives) => {
    expect(propose(type)).toMatchObject({ type: expected, alternatives, array: false });
  });

  it("has every Elasticsearch type in one row, and every row in the test above", () => {
    const types = TYPE_ROWS.flatMap((row) => row.types);
    expect(new Set(types).size).toBe(types.length);
    expect(types.length).toBe(54);
  });

  it("gives a multi-field no column", () => {
    expect(propose("keyword", undefined, { multi_field: true }).type).toBe("none");
  });

  it("takes precision and scale of a scaled_float from its factor, wide enough for any long", () => {
    const types = [1, 10, 100, 1000, 0.01, 3, 1e9].map(
      (scaling_factor) => propose("scaled_float", undefined, { scaling_factor }).type,
    );
    expect(types).toEqual([
      "numeric(19,0)",
      "numeric(19,1)",
      "numeric(19,2)",
      "numeric(19,3)",
      "numeric(21,0)",
      "numeric(20,1)",
      "numeric(19,9)",
    ]);
  });

  it("takes elements and dimensions of a vector from its parameters", () => {
    expect(propose("dense_vector", undefined, { parameters: { dims: 384 } })).toMatchObject({
      type: "real[]",
      alternatives: ["vector(384)", "jsonb"],
    });
    expect(propose("dense_vector", undefined, { parameters: { element_type: "byte" } }).type).toBe("smallint[]");
  });

  it("keeps date formats, constants and null values in the notes, quoted and clipped", () => {
    expect(propose("date", undefined, { format: "yyyy/MM/dd||epoch_millis" }).notes).toEqual([
      'Format "yyyy/MM/dd||epoch_millis"; without a zone it is UTC.',
    ]);
    expect(propose("constant_keyword", undefined, { constant: "eu\nwest" }).notes).toEqual([
      'Where `_source` leaves it out the value is "eu\\nwest", from the mapping.',
    ]);
    expect(propose("keyword", undefined, { parameters: { null_value: "n/a", ignore_above: 256 } }).notes).toEqual([
      "Values above 256 characters are in `_source` but cannot be searched.",
      'Elasticsearch reads null as "n/a"; `_source` says null.',
    ]);
    const [note = ""] = propose("date", undefined, { format: "x".repeat(500) }).notes;
    expect(note.length).toBeLessThan(130);
  });

  it.each<[string, string[], string]>([
    ["integer", ["long"], "bigint"],
    ["long", ["short"], "bigint"],
    ["float", ["double"], "double precision"],
    ["long", ["double"], "numeric"],
    ["scaled_float", ["integer"], "numeric"],
    ["keyword", ["text"], "text"],
    ["keyword", ["long"], "text"],
    ["date", ["keyword"], "text"],
    ["object", ["keyword"], "jsonb"],
    ["keyword", ["nested"], "jsonb"],
    ["date", ["date_nanos"], "timestamptz"],
  ])("%s that other indices map as %j becomes %s", (type, conflicts, expected) => {
    const proposal = propose(type, undefined, { conflicts });
    expect(proposal.type).toBe(expected);
    expect(proposal.notes.at(-1)).toBe(`Other indices map it as ${conflicts.join(", ")}.`);
    expect(proposal.alternatives).not.toContain(expected);
  });
});

describe("proposeType with a profile", () => {
  it.each<[string, string, string, string]>([
    ["short", "-32768", "32767", "smallint"],
    ["short", "0", "32768", "integer"],
    ["integer", "-2147483648", "2147483647", "integer"],
    ["integer", "-2147483649", "0", "bigint"],
    ["long", "0", "9223372036854775807", "bigint"],
    ["long", "0", "9223372036854775808", "numeric"],
    ["byte", "0", "99999999999999999999", "numeric"],
  ])("widens %s with values from %s to %s to %s", (type, min, max, expected) => {
    const digits = Math.max(min.replace("-", "").length, max.length);
    expect(propose(type, { kinds: { integer: 10 }, min, max, integer_digits_max: digits }).type).toBe(expected);
  });

  it("never narrows below the mapped type", () => {
    expect(propose("long", { kinds: { integer: 10 }, min: "0", max: "1", integer_digits_max: 1 }).type).toBe("bigint");
  });

  it("widens by digits where the greatest text is not the greatest number", () => {
    expect(
      propose("integer", { kinds: { string: 10 }, shapes: { number: 10 }, min: "x", max: "x", integer_digits_max: 12 })
        .type,
    ).toBe("bigint");
  });

  it("offers bigint for an unsigned_long only while it fits", () => {
    const change = { kinds: { integer: 1 }, max: "9223372036854775807", integer_digits_max: 19 };
    expect(propose("unsigned_long", change).alternatives).toEqual(["bigint"]);
    expect(propose("unsigned_long", { ...change, max: "9223372036854775808" }).alternatives).toEqual([]);
  });

  it("offers numeric with the digits that a float really has, first", () => {
    expect(propose("float", { kinds: { decimal: 10 }, integer_digits_max: 4, scale_max: 2 })).toEqual({
      type: "real",
      alternatives: ["numeric(6,2)", "double precision"],
      array: false,
      notes: [],
    });
    expect(propose("float", { kinds: { decimal: 10 }, integer_digits_max: 8, scale_max: 2 }).notes).toEqual([
      "Values have up to 10 digits; beyond 6 only numeric is exact.",
    ]);
    expect(propose("double", { kinds: { decimal: 1 }, integer_digits_max: 900, scale_max: 200 }).alternatives).toEqual([
      "numeric",
    ]);
  });

  it("says when a scaled_float has more decimals than it keeps", () => {
    const field = { scaling_factor: 100 };
    expect(propose("scaled_float", { kinds: { decimal: 1 }, scale_max: 2 }, field).notes).toEqual([]);
    expect(propose("scaled_float", { kinds: { decimal: 1 }, scale_max: 3 }, field).notes).toEqual([
      "`_source` keeps values unrounded; more than 2 decimals are rounded.",
    ]);
  });

  it("offers uuid when all values are, and varchar of a round length", () => {
    expect(
      propose("keyword", { kinds: { string: 9, null: 1 }, shapes: { uuid: 9 }, length_max: 36 }).alternatives,
    ).toEqual(["uuid", "varchar(50)"]);
    expect(propose("keyword", { kinds: { string: 9 }, shapes: { uuid: 8 }, length_max: 36 }).alternatives).toEqual([
      "varchar(50)",
    ]);
    expect(propose("text", { kinds: { string: 9 }, length_max: 5000 }).alternatives).toEqual([]);
  });

  it("says when texts are too long for a key", () => {
    expect(propose("text", { kinds: { string: 10 }, bytes_max: 2704 }).notes).toEqual([]);
    expect(propose("text", { kinds: { string: 10 }, bytes_max: 2705 }).notes).toEqual([
      "Values have up to 2705 bytes, too many for a key or an index.",
    ]);
  });

  it("makes an array type where documents hold arrays, and says when only some do", () => {
    expect(propose("keyword", { kinds: { string: 30 }, arrays: 10, length_max: 8 })).toEqual({
      type: "text[]",
      alternatives: ["varchar(10)[]", "jsonb"],
      array: true,
      notes: [],
    });
    expect(propose("integer", { kinds: { integer: 12 }, arrays: 2, min: "0", max: "9" })).toEqual({
      type: "integer[]",
      alternatives: ["bigint[]", "numeric[]", "jsonb"],
      array: true,
      notes: ["Some documents hold one value, some an array; one value becomes an array of one."],
    });
    expect(propose("float", { kinds: { decimal: 20 }, arrays: 10, integer_digits_max: 1, scale_max: 1 }).type).toBe(
      "real[]",
    );
  });

  it.each(["nested", "object", "flattened", "geo_point", "dense_vector", "histogram", "completion", "join"])(
    "makes no array type of %s, whose arrays are values",
    (type) => {
      const { array, type: proposed } = propose(type, { arrays: 10 });
      expect(array).toBe(false);
      expect(proposed).toBe(propose(type).type);
    },
  );

  it("keeps fractions that an integer mapping ignores", () => {
    expect(propose("long", { kinds: { integer: 9, decimal: 1 }, min: "1", max: "12.7" })).toMatchObject({
      type: "numeric",
      alternatives: ["bigint"],
      notes: [
        "The documents hold values that the mapped type does not take (integer 9, decimal 1); numeric keeps the fractions that the mapping cuts.",
      ],
    });
  });

  it("takes numbers written as strings, and says so", () => {
    expect(propose("long", { kinds: { integer: 8, string: 2 }, shapes: { number: 2 } })).toMatchObject({
      type: "bigint",
      notes: ["Numbers written as strings: 2."],
    });
  });

  it.each<[string, ProfileChange, string]>([
    ["long", { kinds: { integer: 9, string: 1 } }, "text"],
    ["double", { kinds: { decimal: 9, boolean: 1 } }, "text"],
    ["boolean", { kinds: { boolean: 9, string: 1 } }, "text"],
    ["boolean", { kinds: { boolean: 9, integer: 1 } }, "text"],
    ["date", { kinds: { string: 9, decimal: 1 } }, "text"],
    ["ip", { kinds: { string: 9, integer: 1 } }, "text"],
    ["date", { kinds: { string: 9, object: 1 } }, "jsonb"],
    ["keyword", { kinds: { string: 9, object: 1 } }, "jsonb"],
    ["integer_range", { kinds: { object: 9, string: 1 } }, "jsonb"],
  ])("%s whose documents hold %j becomes %s, with the mapped type as an alternative", (type, change, expected) => {
    const proposal = propose(type, change);
    expect(proposal.type).toBe(expected);
    expect(proposal.alternatives[0]).toBe(propose(type).type);
    expect(proposal.notes[0]).toContain("The documents hold");
  });

  it("keeps mixed arrays of objects in jsonb without brackets", () => {
    expect(propose("keyword", { kinds: { string: 9, object: 1 }, arrays: 5 })).toMatchObject({
      type: "jsonb",
      array: false,
    });
  });

  it("keeps text for a keyword that is sent as number or boolean", () => {
    expect(propose("keyword", { kinds: { string: 1, integer: 5, boolean: 4 } })).toMatchObject({
      type: "text",
      notes: [],
    });
  });

  it("takes boolean strings and counts the empty ones", () => {
    expect(propose("boolean", { kinds: { boolean: 7, string: 3 }, shapes: { boolean: 2, empty: 1 } })).toMatchObject({
      type: "boolean",
      notes: ["Empty strings, which Elasticsearch reads as false: 1."],
    });
    expect(propose("long", { kinds: { integer: 7, string: 3 }, shapes: { number: 2, empty: 1 } }).notes).toContain(
      "Empty strings, which bigint does not take: 1.",
    );
  });

  it("warns of U+0000, of absent fields and of days without a time", () => {
    expect(propose("keyword", { kinds: { string: 10 }, shapes: { nul: 2 } }).notes).toEqual([
      "Values with U+0000, which PostgreSQL cannot store: 2. Choose a nul policy.",
    ]);
    expect(propose("keyword", { present: 0 }).notes).toEqual(["No profiled document has this field."]);
    expect(propose("date", { kinds: { string: 10 }, length_max: 10, shapes: { date: 10 } }).notes).toEqual([
      "All values are days without a time; date holds them.",
    ]);
  });

  it("keeps the relation of a join as text though children are objects", () => {
    expect(propose("join", { kinds: { string: 5, object: 5 } }).type).toBe("text");
  });
});
