package org.approxifer.torchserve.ts;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.pytorch.serve.servingsdk.Context;
import org.pytorch.serve.servingsdk.ModelServerEndpoint;
import org.pytorch.serve.servingsdk.annotations.Endpoint;
import org.pytorch.serve.servingsdk.annotations.helpers.EndpointTypes;
import org.pytorch.serve.servingsdk.http.Request;
import org.pytorch.serve.servingsdk.http.Response;
import org.pytorch.serve.wlm.ModelManager;

/**
 * {@code GET /coded[/(model)]}: state of the coded models; for one model 503 while it has fewer
 * live workers than its code needs. Loading this class starts the plugin.
 */
@Endpoint(
    urlPattern = "coded",
    endpointType = EndpointTypes.INFERENCE,
    description = "State of the coded models: groups, workers, ledger")
public final class CodedEndpoint extends ModelServerEndpoint {
  private static final Gson GSON = new GsonBuilder().setPrettyPrinting().create();

  private final Watcher watcher;

  public CodedEndpoint() {
    watcher = Watcher.start();
  }

  // TorchServe would answer 500 and log a stack trace for each.
  @Override
  public void doPost(Request request, Response response, Context context) throws IOException {
    refuse(response);
  }

  @Override
  public void doPut(Request request, Response response, Context context) throws IOException {
    refuse(response);
  }

  @Override
  public void doDelete(Request request, Response response, Context context) throws IOException {
    refuse(response);
  }

  private static void refuse(Response response) throws IOException {
    Map<String, Object> body = new LinkedHashMap<>();
    body.put("code", 405);
    body.put("type", "MethodNotAllowedException");
    body.put("message", "/coded only answers GET");
    response.setStatus(405);
    response.setContentType("application/json");
    response.getOutputStream().write(GSON.toJson(body).getBytes(StandardCharsets.UTF_8));
  }

  @Override
  public void doGet(Request request, Response response, Context context) throws IOException {
    String path = request.getRequestURI().split("\\?", 2)[0];
    String[] segments = path.split("/");
    String wanted = segments.length > 2 ? segments[2] : null;
    List<Object> reports = new ArrayList<>();
    boolean ready = true;
    for (Attachment attachment : watcher.attachments()) {
      if (wanted == null || wanted.equals(attachment.model().getModelName())) {
        reports.add(attachment.report(ModelManager.getInstance()));
        ready &= attachment.ready(ModelManager.getInstance());
      }
    }
    Map<String, Object> body = new LinkedHashMap<>();
    if (wanted != null && reports.isEmpty()) {
      response.setStatus(404);
      body.put("code", 404);
      body.put("type", "ModelNotFoundException");
      body.put("message", "no coded model \"" + wanted + "\" is registered; GET /coded lists them");
    } else {
      body.put("models", reports);
      if (wanted != null && !ready) {
        response.setStatus(503); // so that it can be a readiness probe
      }
    }
    response.setContentType("application/json");
    response.getOutputStream().write(GSON.toJson(body).getBytes(StandardCharsets.UTF_8));
  }
}
