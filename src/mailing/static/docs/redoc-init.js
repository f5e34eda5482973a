const font = { fontFamily: "system-ui, sans-serif" }; // the default is fetched from Google

Redoc.init(
  "/docs/openapi.json",
  { expandResponses: "200,201", theme: { typography: { ...font, headings: font } } },
  document.getElementById("page"),
);
