"""Elements and attributes that may stand on a page: what shows something, and neither loads, navigates nor runs.

HTML, the SVG of charts, and MathML. Names are spelled as the parser gives them, SVG's in camel case.
"""

HTML = """a abbr acronym address article aside audio b bdi bdo big blockquote br button caption center cite code col
colgroup data datalist dd del details dfn div dl dt em fieldset figcaption figure font footer h1 h2 h3 h4 h5 h6 header
hgroup hr i img input ins kbd label legend li main mark menu meter nav nobr ol optgroup option output p picture pre
progress q rb rp rt rtc ruby s samp search section select small source span strike strong style sub summary sup table
tbody td textarea tfoot th thead time tr track tt u ul var video wbr"""

SVG = """animate animateMotion animateTransform circle clipPath defs desc ellipse feBlend feColorMatrix
feComponentTransfer feComposite feConvolveMatrix feDiffuseLighting feDisplacementMap feDistantLight feDropShadow
feFlood feFuncA feFuncB feFuncG feFuncR feGaussianBlur feImage feMerge feMergeNode feMorphology feOffset fePointLight
feSpecularLighting feSpotLight feTile feTurbulence filter foreignObject g image line linearGradient marker mask
metadata mpath path pattern polygon polyline radialGradient rect set stop svg switch symbol text textPath title tspan
use view"""

MATHML = """annotation maction math menclose merror mfenced mfrac mi mmultiscripts mn mo mover mpadded mphantom
mprescripts mroot mrow ms mspace msqrt mstyle msub msubsup msup mtable mtd mtext mtr munder munderover none
semantics"""

HTML_ATTRIBUTES = """abbr align alt bgcolor border cellpadding cellspacing char charoff checked class color colspan
cols compact controls coords datetime decoding default dir disabled download face for frame headers height hidden high
href hreflang hspace id indeterminate inert kind label lang list loading loop low max maxlength media min multiple
muted name noshade nowrap open optimum pattern placeholder poster preload readonly required reversed role rows rowspan
rules scope selected shape size sizes span spellcheck src srclang start step style summary tabindex title translate
type valign value vspace width wrap"""

SVG_ATTRIBUTES = """accumulate additive alignment-baseline amplitude attributeName attributeType azimuth baseFrequency
baseline-shift baseProfile begin bias by calcMode clip clip-path clip-rule clipPathUnits color-interpolation
color-interpolation-filters cursor cx cy d diffuseConstant direction display divisor dominant-baseline dur dx dy
edgeMode elevation end exponent fill fill-opacity fill-rule filter filterUnits flood-color flood-opacity font-family
font-size font-size-adjust font-stretch font-style font-variant font-weight fr from fx fy gradientTransform
gradientUnits image-rendering in in2 intercept isolation k1 k2 k3 k4 kernelMatrix kernelUnitLength keyPoints
keySplines keyTimes lengthAdjust letter-spacing lighting-color limitingConeAngle marker-end marker-mid marker-start
markerHeight markerUnits markerWidth mask mask-type maskContentUnits maskUnits mix-blend-mode mode numOctaves offset
opacity operator order orient origin overflow paint-order path pathLength patternContentUnits patternTransform
patternUnits pointer-events points pointsAtX pointsAtY pointsAtZ preserveAspectRatio primitiveUnits r radius refX refY
repeatCount repeatDur requiredExtensions restart result rotate rx ry scale seed shape-rendering side slope
specularConstant specularExponent spreadMethod startOffset stdDeviation stitchTiles stop-color stop-opacity stroke
stroke-dasharray stroke-dashoffset stroke-linecap stroke-linejoin stroke-miterlimit stroke-opacity stroke-width
surfaceScale systemLanguage tableValues targetX targetY text-anchor text-decoration text-rendering textLength to
transform transform-origin unicode-bidi values vector-effect version viewBox visibility word-spacing writing-mode x x1
x2 xChannelSelector y y1 y2 yChannelSelector z"""

MATHML_ATTRIBUTES = """accent accentunder alttext columnalign columnlines columnspacing columnspan depth displaystyle
encoding fence form frame largeop linethickness lspace mathbackground mathcolor mathsize mathvariant maxsize minsize
movablelimits notation rowalign rowlines rowspacing rspace scriptlevel separator separators stretchy symmetric
voffset"""

TAGS = {*HTML.split(), *SVG.split(), *MATHML.split()}
ATTRIBUTES = {*HTML_ATTRIBUTES.split(), *SVG_ATTRIBUTES.split(), *MATHML_ATTRIBUTES.split()}
PREFIXES = {"data-", "aria-"}  # of further attributes
# What these hold is a program, or is parsed as text: without the element it is not for readers.
DROPPED_WITH_CONTENT = {"script", "iframe", "noscript", "noembed", "noframes", "template"}
