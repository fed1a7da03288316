"""The names that LaTeX and Typst have for the same symbol of a formula.

Each was compared in its picture with what LaTeX draws (tests/test_formula_rules.py does it again).
Kept tables were looked at: pylatexenc's and unicodeit's give Unicode characters, not Typst's names,
and put \\epsilon and \\varepsilon, or \\phi and \\varphi, where Typst's fonts draw the other one.
"""


def _named(text: str) -> dict[str, str]:
    """`latex typst` in pairs, one after another."""
    words = text.split()
    return dict(zip(words[::2], words[1::2], strict=True))


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


GREEK = _named("""
alpha alpha  beta beta  gamma gamma  delta delta  epsilon epsilon.alt  varepsilon epsilon
zeta zeta  eta eta  theta theta  vartheta theta.alt  iota iota  kappa kappa  varkappa kappa.alt
lambda lambda  mu mu  nu nu  xi xi  omicron omicron  pi pi  varpi pi.alt  rho rho  varrho rho.alt
sigma sigma  varsigma sigma.alt  tau tau  upsilon upsilon  phi phi.alt  varphi phi  chi chi
psi psi  omega omega
""")

CAPITAL_GREEK = _named("""
Gamma Gamma  Delta Delta  Theta Theta  Lambda Lambda  Xi Xi  Pi Pi  Sigma Sigma  Upsilon Upsilon
Phi Phi  Psi Psi  Omega Omega
""")

SLANTED_GREEK = {f"var{name}": f"italic({name})" for name in CAPITAL_GREEK}

ORDINARY = _named("""
surd \\√  infty infinity  partial partial  nabla nabla  hbar ℏ  hslash ℏ  ell ell  wp ℘  Re Re
Im Im  aleph aleph  beth beth  gimel gimel  imath dotless.i  jmath dotless.j  emptyset emptyset
varnothing nothing  forall forall  exists exists  nexists exists.not  neg not  lnot not  top top
bot bot  angle angle  measuredangle angle.arc  triangle triangle.stroked.t  square square.stroked
Box square.stroked  blacksquare square.filled  Diamond lozenge.stroked  lozenge lozenge.stroked
clubsuit suit.club.filled  diamondsuit suit.diamond.stroked  heartsuit suit.heart.stroked
spadesuit suit.spade.filled  flat flat  natural natural  sharp sharp  backprime prime.rev
vdots dots.v  complement complement  mho ℧  eth ð  degree degree  dag dagger  ddag dagger.double
S section  P pilcrow  copyright copyright  pounds pound  checkmark checkmark  backslash backslash
lbrack \\[  rbrack \\]  # \\#  % %  & amp  _ \\_
""")

INNER = _named("""
ldots dots  dots dots  dotsc dots  dotso dots  cdots dots.c  dotsb dots.c  dotsm dots.c
dotsi dots.c  ddots dots.down
""")

BINARY = _named("""
pm plus.minus  mp minus.plus  times times  div div  cdot dot.op  ast ast.op  star star.op
circ compose  bullet bullet.op  cap inter  cup union  uplus union.plus  sqcap inter.sq
sqcup union.sq  vee or  lor or  wedge and  land and  setminus without  smallsetminus without
wr wreath  diamond ⋄  bigtriangleup triangle.stroked.t  bigtriangledown triangle.stroked.b
oplus plus.o  ominus minus.o  otimes times.o  oslash ⊘  odot dot.o  bigcirc circle.stroked.big
dagger dagger  ddagger dagger.double  amalg ⨿  ltimes times.l  rtimes times.r
leftthreetimes times.three.l  rightthreetimes times.three.r  barwedge ⊼  veebar ⊻
doublebarwedge ⩞  curlyvee or.curly  curlywedge and.curly  Cup union.double  Cap inter.double
dotplus plus.dot  boxplus plus.square  boxminus minus.square  boxtimes times.square
boxdot dot.square  divideontimes times.div  intercal ⊺  centerdot dot.op  lhd lt.tri  rhd gt.tri
""")

RELATION = _named("""
leq lt.eq  le lt.eq  geq gt.eq  ge gt.eq  leqslant lt.eq.slant  geqslant gt.eq.slant  lt <  gt >
ne eq.not  neq eq.not  equiv equiv  sim tilde.op  simeq tilde.eq  approx approx  cong tilde.equiv
doteq ≐  propto prop  varpropto prop  in in  ni in.rev  owns in.rev  notin in.not  subset subset
supset supset  subseteq subset.eq  supseteq supset.eq  subsetneq subset.neq  supsetneq supset.neq
nsubseteq subset.eq.not  nsupseteq supset.eq.not  sqsubset subset.sq  sqsupset supset.sq
sqsubseteq subset.sq.eq  sqsupseteq supset.sq.eq  ll lt.double  gg gt.double  lll lt.triple
ggg gt.triple  prec prec  succ succ  preceq ⪯  succeq ⪰  preccurlyeq ≼  succcurlyeq ≽
precsim prec.tilde  succsim succ.tilde  asymp asymp  bowtie ⋈  Join ⋈  perp perp  mid divides
nmid divides.not  parallel parallel  nparallel parallel.not  vdash tack.r  dashv tack.l
models tack.r.double  vDash tack.r.double  Vdash ⊩  Vvdash ⊪  nvdash tack.r.not
nvDash tack.r.double.not  smile smile  frown frown  colon :  coloneqq ≔  eqqcolon ≕
lesssim lt.tilde  gtrsim gt.tilde  lessgtr lt.gt  gtrless gt.lt  lessapprox lt.approx
gtrapprox gt.approx  leqq lt.equiv  geqq gt.equiv  nless lt.not  ngtr gt.not  nleq lt.eq.not
ngeq gt.eq.not  lneq ⪇  gneq ⪈  lneqq lt.nequiv  gneqq gt.nequiv  approxeq approx.eq
backsim tilde.rev  triangleq eq.delta  bumpeq ≏  Bumpeq ≎  risingdotseq ≓  fallingdotseq ≒
ncong tilde.equiv.not  nsim tilde.not  nprec prec.not  nsucc succ.not  vartriangleleft lt.tri
vartriangleright gt.tri  trianglelefteq lt.tri.eq  trianglerighteq gt.tri.eq  therefore therefore
because because  between ≬  pitchfork ⋔  multimap multimap  subseteqq ⫅  supseteqq ⫆
backepsilon in.rev.small  circeq ≗  eqcirc ≖  thicksim tilde.op  thickapprox approx
Subset subset.double  Supset supset.double  to arrow.r  rightarrow arrow.r  leftarrow arrow.l
gets arrow.l  uparrow arrow.t  downarrow arrow.b  leftrightarrow arrow.l.r  updownarrow arrow.t.b
Rightarrow arrow.r.double  Leftarrow arrow.l.double  Leftrightarrow arrow.l.r.double
Uparrow arrow.t.double  Downarrow arrow.b.double  Updownarrow arrow.t.b.double
longrightarrow arrow.r.long  longleftarrow arrow.l.long  longleftrightarrow arrow.l.r.long
Longrightarrow arrow.r.double.long  Longleftarrow arrow.l.double.long
Longleftrightarrow arrow.l.r.double.long  iff arrow.l.r.double.long  implies arrow.r.double.long
impliedby arrow.l.double.long  mapsto arrow.r.bar  longmapsto arrow.r.long.bar
hookrightarrow arrow.r.hook  hookleftarrow arrow.l.hook  nearrow arrow.tr  searrow arrow.br
swarrow arrow.bl  nwarrow arrow.tl  rightharpoonup harpoon.rt  rightharpoondown harpoon.rb
leftharpoonup harpoon.lt  leftharpoondown harpoon.lb  rightleftharpoons harpoons.rtlb
leftrightharpoons harpoons.ltrb  upharpoonright harpoon.tr  rightsquigarrow arrow.r.squiggly
leadsto arrow.r.squiggly  leftrightsquigarrow arrow.l.r.wave  twoheadrightarrow arrow.r.twohead
twoheadleftarrow arrow.l.twohead  rightrightarrows arrows.rr  leftleftarrows arrows.ll
rightleftarrows arrows.rl  leftrightarrows arrows.lr  curvearrowright arrow.cw.half
curvearrowleft arrow.ccw.half  circlearrowright arrow.cw  circlearrowleft arrow.ccw
rightarrowtail arrow.r.tail  leftarrowtail arrow.l.tail  nrightarrow arrow.r.not
nleftarrow arrow.l.not  nRightarrow arrow.r.double.not  nLeftarrow arrow.l.double.not
nleftrightarrow arrow.l.r.not  upuparrows arrows.tt  downdownarrows arrows.bb  Lsh ↰  Rsh ↱
dashrightarrow ⇢  dashleftarrow ⇠  looparrowright arrow.r.loop  looparrowleft arrow.l.loop
Rrightarrow arrow.r.triple  Lleftarrow arrow.l.triple
""")

LARGE = _named("""
sum sum  prod product  coprod product.co  int integral  iint integral.double
iiint integral.triple  iiiint integral.quad  oint integral.cont  bigcup union.big
bigcap inter.big  bigsqcup union.sq.big  biguplus union.plus.big  bigvee or.big  bigwedge and.big
bigoplus plus.o.big  bigotimes times.o.big  bigodot dot.o.big
""")

OPERATORS = _set("""
arccos arcsin arctan arg cos cosh cot coth csc deg dim exp hom ker lg ln log sec sin sinh tan tanh
""")
LIMIT_OPERATORS = _set("""
det gcd inf lim liminf limsup max min Pr sup
""")
"""Operators with their scripts above and below. Both have the same name in LaTeX and Typst."""

NEGATED = _named("""
= eq.not  equiv equiv.not  in in.not  in.rev in.rev.not  subset subset.not  supset supset.not
subset.eq subset.eq.not  supset.eq supset.eq.not  < lt.not  > gt.not  lt.eq lt.eq.not
gt.eq gt.eq.not  tilde.op tilde.not  tilde.eq tilde.eq.not  approx approx.not
tilde.equiv tilde.equiv.not  exists exists.not  divides divides.not  parallel parallel.not
prec prec.not  succ succ.not  arrow.r arrow.r.not  arrow.l arrow.l.not
arrow.r.double arrow.r.double.not
""")

SPACES = {
    ",": "thin",
    "thinspace": "thin",
    ":": "med",
    ">": "med",
    "medspace": "med",
    ";": "thick",
    "thickspace": "thick",
    " ": "space",
    "space": "space",
    "nobreakspace": "space",
    "enspace": "#h(0.5em)",
    "enskip": "#h(0.5em)",
    "quad": "quad",
    "qquad": "wide",
    "!": "#h(-1em/6)",
    "negthinspace": "#h(-1em/6)",
    "negmedspace": "#h(-2em/9)",
    "negthickspace": "#h(-5em/18)",
}

DELIMITERS = {
    "(": "\\(",
    ")": "\\)",
    "[": "\\[",
    "]": "\\]",
    "|": "\\|",
    "/": "\\/",
    "<": "chevron.l",
    ">": "chevron.r",
    ".": "",
    "\\{": "\\{",
    "\\}": "\\}",
    "\\|": "‖",
    **{
        f"\\{latex}": typst
        for latex, typst in _named("""
        lbrace \\{ rbrace \\} lbrack \\[ rbrack \\] langle chevron.l rangle chevron.r vert \\|
        lvert \\| rvert \\| Vert ‖ lVert ‖ rVert ‖ lfloor floor.l rfloor floor.r lceil ceil.l
        rceil ceil.r backslash backslash uparrow arrow.t downarrow arrow.b updownarrow arrow.t.b
        Uparrow arrow.t.double Downarrow arrow.b.double Updownarrow arrow.t.b.double
        ulcorner \\⌜ urcorner \\⌝ llcorner \\⌞ lrcorner \\⌟ lgroup \\⟮ rgroup \\⟯
        """).items()
    },
}

BARS = {"\\|", "‖"}
OPENING = {"\\(", "\\[", "\\{", "chevron.l", "floor.l", "ceil.l", "\\⌜", "\\⌞", "\\⟮"}
CLOSING = {"\\)", "\\]", "\\}", "chevron.r", "floor.r", "ceil.r", "\\⌝", "\\⌟", "\\⟯"}

ACCENTS = _named("""
hat hat  widehat hat  check caron  widecheck caron  tilde tilde  widetilde tilde  acute acute
grave grave  dot dot  ddot dot.double  dddot dot.triple  ddddot dot.quad  breve breve  bar macron
vec arrow  mathring circle  overline overline  underline underline  underbar underline
overrightarrow arrow  overleftarrow arrow.l  overleftrightarrow arrow.l.r
""")

STRETCHED = _set("""
widehat widecheck widetilde overline underline underbar overrightarrow overleftarrow
overleftrightarrow
""")

CLASSES = _named("""
mathord normal  mathbin binary  mathrel relation  mathopen opening  mathclose closing
mathpunct punctuation  mathinner fence
""")

FONTS = _named("""
text rm  mathrm rm  textrm rm  textup rm  textnormal rm  mathup rm  mathbf bf  textbf bf
mathbfup bf  mathit it  textit it  textsl it  emph it  mathsf sf  textsf sf  mathtt tt  texttt tt
mathcal cal  mathscr scr  mathbb bb  Bbb bb  mathfrak frak  frak frak  mathnormal normal
""")
"""Commands with an argument; the font's short name."""

SWITCHES = _named("""
rm rm  bf bf  it it  sf sf  tt tt  cal cal  mit normal  sl it  scr scr  rmfamily rm  bfseries bf
itshape it  upshape rm  sffamily sf  ttfamily tt
""")
"""Commands that hold to the end of their group."""

STYLES = _named("""
displaystyle display  textstyle inline  scriptstyle script  scriptscriptstyle sscript
""")

SIZES = {"big": 1.2, "Big": 1.8, "bigg": 2.4, "Bigg": 3}

NOTHING = _set("""
relax strut mathstrut null protect noindent allowbreak nobreak nonumber notag displaylimits hfill
hfil hss break goodbreak boldmath unboldmath tiny scriptsize footnotesize small
normalsize large Large LARGE huge Huge smallskip medskip bigskip / -
""")
"""Commands that draw nothing."""
