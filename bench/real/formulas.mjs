// Lines of LaTeX -> {"latex", "typst"}, a line each, by tex2typst. What it cannot convert is left out.
import { readFileSync } from "node:fs";
import { tex2typst } from "tex2typst";

for (const latex of readFileSync(0, "utf8").split("\n")) {
  try {
    console.log(JSON.stringify({ latex, typst: tex2typst(latex) }));
  } catch {}
}
