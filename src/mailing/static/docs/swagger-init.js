// persistAuthorization keeps the key in this browser's local storage until "Logout" is pressed.
window.ui = SwaggerUIBundle({
  url: "/docs/openapi.json",
  dom_id: "#page",
  deepLinking: true,
  displayRequestDuration: true,
  persistAuthorization: true,
  tryItOutEnabled: true,
  validatorUrl: null, // the default asks validator.swagger.io
});
