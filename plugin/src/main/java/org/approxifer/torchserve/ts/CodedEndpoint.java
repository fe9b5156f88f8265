package org.approxifer.torchserve.ts;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.approxifer.torchserve.core.Readiness;
import org.pytorch.serve.servingsdk.Context;
import org.pytorch.serve.servingsdk.ModelServerEndpoint;
import org.pytorch.serve.servingsdk.annotations.Endpoint;
import org.pytorch.serve.servingsdk.annotations.helpers.EndpointTypes;
import org.pytorch.serve.servingsdk.http.Request;
import org.pytorch.serve.servingsdk.http.Response;
import org.pytorch.serve.wlm.ModelManager;

/**
 * {@code GET /coded[/(model)]}: state of the coded models; for one model 503 while its default
 * version is not ready. Loading this class starts the plugin.
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
    NamedReadiness named = wanted == null ? null : watcher.readiness(wanted);
    Map<String, Object> body = new LinkedHashMap<>();
    if (wanted != null && named == null) {
      response.setStatus(404);
      body.put("code", 404);
      body.put("type", "ModelNotFoundException");
      body.put("message", "no coded model \"" + wanted + "\" is registered; GET /coded lists them");
    } else {
      if (named != null) {
        body.put("default_version", named.version());
        NamedReadiness.describe(named.readiness(), body);
        response.setStatus(named.readiness().ready() ? 200 : 503); // for a readiness probe
      }
      body.put("models", reports(wanted));
    }
    response.setContentType("application/json");
    response.getOutputStream().write(GSON.toJson(body).getBytes(StandardCharsets.UTF_8));
  }

  /** Each version of a model, or of all if none is named. */
  private List<Object> reports(String wanted) {
    List<Object> reports = new ArrayList<>();
    for (Attachment attachment : watcher.attachments()) {
      if (wanted == null || wanted.equals(attachment.model().getModelName())) {
        reports.add(attachment.report(ModelManager.getInstance()));
      }
    }
    watcher
        .refused()
        .forEach(
            (model, why) -> {
              if (wanted == null || wanted.equals(model.getModelName())) {
                Map<String, Object> report = new LinkedHashMap<>();
                report.put("model", model.getModelName());
                report.put("version", model.getVersion());
                NamedReadiness.describe(Readiness.refused(why), report);
                reports.add(report);
              }
            });
    return reports;
  }
}
