// As peer_worker.py, for the converters of npm, which lie in node_modules beside this file.
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";

const load = {
  async "tex2typst of npm"() {
    return (await import("tex2typst")).tex2typst;
  },
  async mitex() {
    const folder = new URL("./node_modules/mitex-wasm/", import.meta.url);
    const bindings = await import(new URL("mitex_wasm_bg.js", folder));
    const module = new WebAssembly.Module(readFileSync(new URL("mitex_wasm_bg.wasm", folder)));
    const instance = new WebAssembly.Instance(module, { "./mitex_wasm_bg.js": bindings });
    bindings.__wbg_set_wasm(instance.exports);
    return (latex) => bindings.convert_math(latex, new Uint8Array());
  },
};

const convert = await load[process.argv[2]]();
console.log(JSON.stringify("ready"));
for await (const line of createInterface({ input: process.stdin })) {
  for (const latex of JSON.parse(line)) {
    const begin = performance.now();
    let answer = null;
    try {
      answer = convert(latex);
    } catch (error) {
      console.error(String(error));
    }
    console.log(JSON.stringify([answer, (performance.now() - begin) / 1000]));
  }
}
