// Unpacks bokeh's own script and draws the spectrum with it; the picture stays where that fails.
(async () => {
  const text = (id) => document.getElementById(id).textContent;
  const bytes = Uint8Array.from(atob(text("spectrum-library")), (c) => c.charCodeAt(0));
  const unpacked = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(unpacked).text();
  document.head.append(script);
  await window.Bokeh.embed.embed_item(JSON.parse(text("spectrum-item")));
  document.getElementById("spectrum-figure").classList.add("zooms");
})().catch((error) => console.error(error));
