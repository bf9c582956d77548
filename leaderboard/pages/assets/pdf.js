// A drawn chart as a one-page PDF of lines, curves and text: what curveChart() draws, nothing more. Built here because
// there are too many pairs of models for files beside the page. Text is in Helvetica, which every reader has.
const FONT = 1;

function pdfText(text) {
  const plain = text.replaceAll("\u2026", "\x85").replace(/[^\x20-\x7e\x85\xa0-\xff]/g, "?");
  return `(${plain.replace(/[\\()]/g, "\\$&")})`;
}

function pdfColour(value) {
  const role = /var\(--(\w+)\)/.exec(value);
  const digits = (role ? data.palette[role[1]] : value).slice(1);
  return [0, 2, 4].map((at) => (parseInt(digits.slice(at, at + 2), 16) / 255).toFixed(3)).join(" ");
}

const measure = document.createElement("canvas").getContext("2d");

function pdfMark(mark) {
  const get = (name) => mark.getAttribute(name);
  const [fill, stroke] = [get("fill"), get("stroke")];
  const paint = [
    get("opacity") ? "/faint gs" : "",
    stroke ? `${pdfColour(stroke)} RG ${get("stroke-width") || 1} w [${get("stroke-dasharray") || ""}] 0 d` : "",
    fill && fill !== "none" ? `${pdfColour(fill)} rg` : "",
  ].join(" ");
  if (mark.localName === "line") return `${paint} ${get("x1")} ${get("y1")} m ${get("x2")} ${get("y2")} l S`;
  if (mark.localName === "path") {
    const points = get("d").replace(/Z$/, "").slice(1).split("L").map((point) => point.replace(",", " "));
    return `${paint} ${points.map((point, at) => `${point} ${at ? "l" : "m"}`).join(" ")} ${stroke ? "S" : "f"}`;
  }
  const size = Number(get("font-size"));
  measure.font = `${size}px Helvetica, Arial, "Liberation Sans", sans-serif`;
  const anchor = { middle: 0.5, end: 1 }[get("text-anchor")] || 0;
  const back = -anchor * measure.measureText(mark.textContent).width;
  const turned = Boolean(get("transform"));
  const [x, y] = [Number(get("x")) + (turned ? 0 : back), Number(get("y")) - (turned ? back : 0)];
  // The page is turned over so that y grows downwards; text is turned back.
  return `BT ${paint} /F${FONT} ${size} Tf ${turned ? "0 -1 -1 0" : "1 0 0 -1"} ${x.toFixed(2)} ${y.toFixed(2)} Tm ${pdfText(mark.textContent)} Tj ET`;
}

function pdfOf(picture) {
  const marks = [...picture.children].map((mark) => `q ${pdfMark(mark)} Q`);
  const drawing = [`1 0 0 -1 0 ${HIGH} cm`, ...marks].join("\n");
  const objects = [
    "<< /Type /Catalog /Pages 2 0 R >>",
    "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
    `<< /Type /Page /Parent 2 0 R /MediaBox [0 0 ${WIDE} ${HIGH}] /Contents 4 0 R /Resources << /Font << /F${FONT} 5 0 R >> /ExtGState << /faint << /ca 0.13 >> >> >> >>`,
    `<< /Length ${drawing.length} >>\nstream\n${drawing}\nendstream`,
    "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
  ];
  let text = "%PDF-1.4\n";
  const places = objects.map((object, at) => {
    const place = text.length;
    text += `${at + 1} 0 obj\n${object}\nendobj\n`;
    return `${String(place).padStart(10, "0")} 00000 n \n`;
  });
  const start = text.length;
  text += `xref\n0 ${objects.length + 1}\n0000000000 65535 f \n${places.join("")}trailer\n<< /Size ${objects.length + 1} /Root 1 0 R >>\nstartxref\n${start}\n%%EOF\n`;
  // One byte a character: all are below 256.
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}
