package org.approxifer.torchserve.ts;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.Map;
import org.approxifer.torchserve.core.Readiness;
import org.pytorch.serve.http.StatusResponse;
import org.pytorch.serve.servingsdk.Context;
import org.pytorch.serve.servingsdk.ModelServerEndpoint;
import org.pytorch.serve.servingsdk.annotations.Endpoint;
import org.pytorch.serve.servingsdk.annotations.helpers.EndpointTypes;
import org.pytorch.serve.servingsdk.http.Request;
import org.pytorch.serve.servingsdk.http.Response;
import org.pytorch.serve.util.ApiUtils;
import org.pytorch.serve.util.JsonUtils;

/**
 * {@code GET /ping}: TorchServe's own answer, and 503 while the default version of a coded model is
 * not ready, if the server's environment sets {@code APPROXIFER_PING=ready}.
 */
@Endpoint(
    urlPattern = "ping",
    endpointType = EndpointTypes.INFERENCE,
    description = "TorchServe's ping; with APPROXIFER_PING=ready also readiness of coded models")
public final class PingEndpoint extends ModelServerEndpoint {
  private static final boolean READY = "ready".equals(System.getenv("APPROXIFER_PING"));

  private final Watcher watcher = Watcher.start();

  // TorchServe's own ping does not look at the method.
  @Override
  public void doPost(Request request, Response response, Context context) throws IOException {
    doGet(request, response, context);
  }

  @Override
  public void doGet(Request request, Response response, Context context) throws IOException {
    int status = ApiUtils.isModelHealthy() ? 200 : 500;
    Map<String, String> unready = new LinkedHashMap<>();
    if (READY) {
      watcher
          .readiness()
          .forEach(
              (name, named) -> {
                Readiness readiness = named.readiness();
                if (!readiness.ready()) {
                  unready.put(name, readiness.state() + ": " + readiness.reason());
                }
              });
    }
    if (!unready.isEmpty()) {
      status = 503;
    }
    response.setStatus(status);
    response.setContentType("application/json");
    StatusResponse body = new StatusResponse(status == 200 ? "Healthy" : "Unhealthy", status);
    String json =
        unready.isEmpty()
            ? JsonUtils.GSON_PRETTY_EXPOSED.toJson(body)
            : JsonUtils.GSON_PRETTY.toJson(Map.of("status", body.getStatus(), "models", unready));
    json += "\n";
    response.getOutputStream().write(json.getBytes(StandardCharsets.UTF_8));
  }
}
