package org.approxifer.torchserve.ts;

import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import org.approxifer.torchserve.core.Readiness;
import org.pytorch.serve.wlm.Model;
import org.pytorch.serve.wlm.ModelManager;

/**
 * Readiness of a model's name: that of its default version, to which requests go that name none.
 * Another version that loads beside it, or drains after it, changes nothing.
 *
 * @param version the default version; null once none is registered
 */
record NamedReadiness(String version, Readiness readiness) {
  /** What a name answers; null if no version of it is coded or refused. */
  static NamedReadiness of(
      String name,
      Collection<Attachment> attachments,
      Map<Model, String> refused,
      ModelManager models) {
    if (!names(attachments, refused).contains(name)) {
      return null;
    }
    Model model = defaultVersion(models, name);
    if (model == null) {
      return new NamedReadiness(null, Readiness.of(false, 0, 1, 0, 0));
    }
    return new NamedReadiness(model.getVersion(), of(model, attachments, refused, models));
  }

  /** The readiness of each name of which a version is coded or refused, and one is registered. */
  static Map<String, NamedReadiness> all(
      Collection<Attachment> attachments, Map<Model, String> refused, ModelManager models) {
    Map<String, NamedReadiness> all = new LinkedHashMap<>();
    for (String name : names(attachments, refused)) {
      NamedReadiness named = of(name, attachments, refused, models);
      if (named.version() != null) { // a model that someone removed is not missed
        all.put(name, named);
      }
    }
    return all;
  }

  private static Set<String> names(Collection<Attachment> attachments, Map<Model, String> refused) {
    Set<String> names = new TreeSet<>();
    attachments.forEach(attachment -> names.add(attachment.model().getModelName()));
    refused.keySet().forEach(model -> names.add(model.getModelName()));
    return names;
  }

  private static Model defaultVersion(ModelManager models, String name) {
    try {
      return models.getModel(name, null);
    } catch (Exception e) { // ModelVersionNotFoundException, checked, from another class loader
      return null;
    }
  }

  private static Readiness of(
      Model model,
      Collection<Attachment> attachments,
      Map<Model, String> refused,
      ModelManager models) {
    for (Attachment attachment : attachments) {
      if (attachment.model() == model) {
        return attachment.readiness(models);
      }
    }
    if (refused.containsKey(model)) {
      return Readiness.refused(refused.get(model));
    }
    // An upgrade may begin, or end, with a version that is served plainly.
    int live = Attachment.live(model, models).size();
    return Readiness.of(true, model.getMinWorkers(), 1, live, live);
  }

  /** Adds what a probe's reader wants to know. */
  static void describe(Readiness readiness, Map<String, Object> body) {
    body.put("ready", readiness.ready());
    body.put("state", readiness.state().toString());
    if (readiness.reason() != null) {
      body.put("reason", readiness.reason());
    }
  }
}
