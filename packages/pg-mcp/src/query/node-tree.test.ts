import { expect, it } from "vitest";
import { nodesOf, numbersOf, parseTree, textConstant, valuesOf } from "./node-tree.ts";

it("reads nodes, lists and values of a printed tree", () => {
  const tree = parseTree("({QUERY :commandType 1 :targetList ({A :funcid 7 :args <>} {B :opnos (o 96 97)})})");
  const nodes = [...nodesOf(tree)];
  expect(nodes.map((node) => node.kind)).toEqual(["QUERY", "A", "B"]);
  expect(nodes.flatMap((node) => [...numbersOf(node, "funcid"), ...numbersOf(node, "opnos")])).toEqual([7, 96, 97]);
});

it("cannot be made to lose a field by a name that looks like one", () => {
  const [node] = nodesOf(parseTree("{TARGETENTRY :expr {FUNCEXPR :funcid 2621} :resname :expr :resno 1}"));
  expect(node === undefined ? [] : [...nodesOf(valuesOf(node, "expr"))].map((inner) => inner.kind)).toEqual([
    "FUNCEXPR",
  ]);
});

it("keeps an escaped bracket inside its name", () => {
  const nodes = [...nodesOf(parseTree("{ALIAS :aliasname a\\ \\}\\ \\{b :colnames <>}"))];
  expect(nodes).toHaveLength(1);
});

it("reads an expression nested deeper than the stack", () => {
  const depth = 200_000;
  expect([...nodesOf(parseTree(`${"{N :args (".repeat(depth)}${")}".repeat(depth)}`))]).toHaveLength(depth);
});

it("reads a constant's text", () => {
  const [node] = nodesOf(
    parseTree(
      "{CONST :consttype 25 :consttypmod -1 :constisnull false :location 144 :constvalue 7 [ 28 0 0 0 120 46 121 ]}",
    ),
  );
  expect(textConstant(node)).toBe("x.y");
});

it("refuses a tree that is cut", () => {
  expect(() => parseTree("({QUERY :a 1}")).toThrow("not balanced");
});
